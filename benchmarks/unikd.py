"""UniKD on `digits`: does it help between families, what do its parts give, and what does it cost?

    python benchmarks/unikd.py                               # everything: about 3 hours on 2 quiet cores
    python benchmarks/unikd.py --parts pairs --seeds 100     # one seed of the pairs
    python benchmarks/unikd.py --summary                     # print what is there

Parts: `pairs` (students of several families, and a teacher of another one), `ablations` (content queries alone,
positional queries alone, no layers in the adapter, negatives left out; on the first pair), `storage` (the same pair
with its knowledge read from disk: in fp16, in int8, and of half the queries, which is as small). Everything runs by
`edgekd` as a user would run it: teachers that are not shipped are trained, each teacher is absorbed once for all its
students, and every student has a control with its seed. AP is that of the test split, gains are paired by seed, with a
95 % t interval. A row is appended to benchmarks/results/unikd.jsonl as soon as it is there; the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import kept

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = "yolo11n"
OTHER = "rtmdet-tiny"
TEACHER_RUN = ROOT / "runs" / "digits-rtmdet-teacher"  # of the recipe of that name, with one thread
TEACHERS = {
    SHIPPED: ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors",
    OTHER: TEACHER_RUN / "student" / "student.safetensors",
}
PAIRS = {  # teacher, student -> epochs of the student; RTMDet and RT-DETR start slowly
    (SHIPPED, "yolo11p"): 16,
    (SHIPPED, "rtmdet-p"): 24,
    (SHIPPED, "rtdetr-p"): 24,
    (OTHER, "yolo11p"): 16,
}
PARTS = ("pairs", "ablations", "storage")
ABLATIONS: dict[str, dict[str, Any]] = {
    "content alone": {"positional": 0},
    "positional alone": {"content": 0},
    "no layers in the adapter": {"adapter_layers": 0},
    "without negatives": {"negatives": False},
}
DISK = {"knowledge": "disk", "views": 4}
STORED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # keys of the method, and of the teacher
    "stored in fp16": ({}, DISK),
    "stored in int8": ({}, {**DISK, "storage": "int8"}),
    "stored, half the queries": ({"queries": 15}, DISK),
}
SMALL = {  # as recipes/digits-unikd.yaml
    "queries": 30, "width": 64, "absorb_epochs": 15, "absorb_lr0": 0.002, "absorb_divided_by": "objects",
}  # fmt: skip
DATA = {"format": "digits", "imgsz": 96, "val": 400, "test": 400, "seed": 0}
TRAIN = {
    "imgsz": 96, "batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 0.005, "cos_lr": True, "warmup_epochs": 1.0,
    "warmup_bias_lr": 0.0, "mosaic": 0.0, "mixup": 0.0, "fliplr": 0.0, "patience": 0, "amp": False,
}  # fmt: skip
LEARNING_RATE = {"rtmdet-p": 0.002, "rtdetr-p": 0.001}


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        part: `teacher`, `absorb`, `control` or `unikd`.
        teacher, student: models; of a control the teacher of its pair is left out, of an absorption the student.
        variant: of UniKD's keys.
    """

    part: str
    teacher: str = ""
    student: str = ""
    variant: str = "default"
    seed: int = 0

    @property
    def folder(self) -> str:
        """Below the work folder."""
        variant = self.variant.replace(",", "").replace(" ", "-")
        return "_".join([self.part, self.teacher, self.student, variant, str(self.seed)])


def wanted(parts: Sequence[str], seeds: Sequence[int]) -> Iterator[Row]:
    """What is to be run, in order: one seed of everything first."""
    pairs = list(PAIRS) if "pairs" in parts else [next(iter(PAIRS))]
    for seed in seeds:
        for teacher, student in pairs:
            if teacher != SHIPPED:
                yield Row("teacher", student=teacher)
            yield Row("absorb", teacher)
            yield Row("control", student=student, seed=seed)
            yield Row("unikd", teacher, student, seed=seed)
        chosen = [*(ABLATIONS if "ablations" in parts else ()), *(STORED if "storage" in parts else ())]
        for variant in chosen:
            yield absorbed(SHIPPED, variant)
            yield Row("unikd", *next(iter(PAIRS)), variant=variant, seed=seed)


def absorbed(teacher: str, variant: str) -> Row:
    """What a variant's student reads: of another number of queries it has to be absorbed anew."""
    method, _ = STORED.get(variant, ({}, {}))
    return Row("absorb", teacher, variant=variant if method else "default")


def waves(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows side by side, behind those that they need: teachers, what is absorbed of them, students."""
    for parts in (("teacher",), ("absorb",), ("control", "unikd")):
        yield [row for row in rows if row.part in parts]


def recipe_of(row: Row, work: Path, images: int) -> dict[str, Any]:
    """The recipe of a row."""
    student = row.student or "yolo11p"  # absorbing needs none, a recipe does
    epochs = PAIRS.get((row.teacher or SHIPPED, student), 16)
    recipe: dict[str, Any] = {
        "name": row.folder.lower(), "seed": row.seed, "threads": 1, "control": False,
        "data": {**DATA, "train": images}, "student": {"model": student}, "distill": [],
        "train": {**TRAIN, "epochs": epochs, "lr0": LEARNING_RATE.get(student, TRAIN["lr0"])},
    }  # fmt: skip
    if row.teacher:
        stored, disk = STORED.get(row.variant, ({}, {}))
        recipe["teacher"] = {"weights": str(TEACHERS[row.teacher]), **(disk if row.part == "unikd" else {})}
        method = {"method": "unikd", **SMALL, **ABLATIONS.get(row.variant, {}), **stored}
        if row.part == "unikd":
            prepared = work / absorbed(row.teacher, row.variant).folder / "prepare" / "unikd" / "prepared.safetensors"
            method["prepared"] = str(prepared)
        recipe["distill"] = [method]
    return recipe


def run(row: Row, work: Path, images: int) -> dict[str, Any]:
    """One row, by the command line, with the peak memory of its process."""
    recipe, out = _written(row, work, images)
    command = "prepare" if row.part == "absorb" else "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekd", command, str(recipe), "--out", str(out), "--set", "threads=1"]
    )
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{recipe}: edgekd ended with {os.waitstatus_to_exitcode(status)}")  # a pool's thread
    found = {**asdict(row), "images": _images_of(row, images), "peak_mb": round(usage.ru_maxrss / 1024)}
    if row.part == "absorb":
        left = out / "prepare" / "unikd"
        training, metrics = _json(left / "training.json"), _json(left / "metrics.json")
        return {**found, **{key: metrics[key] for key in ("ap", "teacher_ap")}, **training}
    return {
        **found,
        "ap": _json(out / "test.json")["models"]["student"]["ap"],
        "val_ap": _json(out / "student" / "metrics.json")["ap"],
        "seconds": _json(out / "student" / "training.json")["seconds"],
    }


def _images_of(row: Row, images: int) -> int:
    """Of the train split; the teacher's recipe has its own."""
    import yaml

    recipe = ROOT / "recipes" / f"{TEACHER_RUN.name}.yaml"
    return int(yaml.safe_load(recipe.read_text())["data"]["train"]) if row.part == "teacher" else images


def _written(row: Row, work: Path, images: int) -> tuple[Path, Path]:
    """The recipe of a row and the directory of its run."""
    import yaml

    if row.part == "teacher":
        return ROOT / "recipes" / f"{TEACHER_RUN.name}.yaml", TEACHER_RUN
    work.mkdir(parents=True, exist_ok=True)
    recipe = work / f"{row.folder}.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(row, work, images)), encoding="utf-8")
    return recipe, work / row.folder


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The tables: absorbed, pairs, ablations, storage."""
    return {
        "absorbed": [_absorbed(row, rows) for row in rows if row["part"] == "absorb"],
        "pairs": [_gain(rows, *pair, "default") for pair in PAIRS],
        "ablations": [_gain(rows, *next(iter(PAIRS)), variant) for variant in ("default", *ABLATIONS)],
        "storage": [_gain(rows, *next(iter(PAIRS)), variant) for variant in ("default", *STORED)],
    }


def _absorbed(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """With its time as a share of the teacher's training, where that was trained here."""
    teacher = [one["seconds"] for one in rows if one["part"] == "teacher" and one["student"] == row["teacher"]]
    share = round(row["seconds"] / teacher[0], 3) if teacher else None
    keys = ("teacher", "variant", "ap", "teacher_ap", "seconds", "parameters", "peak_mb")
    return {**{key: row[key] for key in keys}, "share_of_teachers_training": share}


def _gain(rows: Sequence[dict[str, Any]], teacher: str, student: str, variant: str) -> dict[str, Any]:
    from edgekd.measure.paired_gain import paired_gain

    def by_seed(part: str, **what: str) -> dict[int, dict[str, Any]]:
        found = [one for one in rows if one["part"] == part and all(one[key] == value for key, value in what.items())]
        return {one["seed"]: one for one in found}

    taught, control = (
        by_seed("unikd", teacher=teacher, student=student, variant=variant),
        by_seed("control", student=student),
    )
    seeds = sorted(taught.keys() & control.keys())
    row: dict[str, Any] = {"teacher": teacher, "student": student, "variant": variant, "seeds": seeds}
    if not seeds:
        return row
    sides = [[side[seed]["ap"] for seed in seeds] for side in (taught, control)]
    gain = paired_gain(*sides)
    extra = [taught[seed]["peak_mb"] - control[seed]["peak_mb"] for seed in seeds]
    return {
        **row, "ap": sides[0], "control": sides[1], "gain": round(gain.mean, 4),
        "interval": None if gain.low is None or gain.high is None else [round(gain.low, 4), round(gain.high, 4)],
        "extra_peak_mb": round(sum(extra) / len(extra)),
    }  # fmt: skip


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102])
    parser.add_argument("--images", type=int, default=800, help="of the train split")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "unikd.jsonl")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "unikd", help="runs, each kept")
    parser.add_argument("--summary", action="store_true", help="print the figures of the rows that are there")
    options = parser.parse_args()
    rows = kept.read(options.out)
    done = {Row(**{field: row[field] for field in Row.__dataclass_fields__}) for row in rows}
    missing = [] if options.summary else [row for row in wanted(options.parts, options.seeds) if row not in done]
    do = partial(run, work=options.work, images=options.images)
    with ThreadPool(options.processes) as pool:  # of threads that each wait for a process
        for wave in waves(list(dict.fromkeys(missing))):
            for found in pool.imap_unordered(do, wave):
                rows.append(found)
                kept.add(options.out, found)
    print(json.dumps(summary(rows), indent=2))


if __name__ == "__main__":
    main()
