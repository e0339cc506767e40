"""Does distillation help, and which method most? Control, the six methods, and Ultralytics' own `distill_model`.

    python benchmarks/distill_gain.py                       # small: about 3 hours on 2 quiet cores
    python benchmarks/distill_gain.py --setting full        # days
    python benchmarks/distill_gain.py --methods control distill_model logit+ld
    python benchmarks/distill_gain.py --summary             # print what is there

Every row has the same teacher, student, initialisation, batches and schedule; only the loss differs. Weights are chosen
on val with seeds 0-2, the same number of tries for each method and for `distill_model`; results are then measured on
test with fresh seeds, with a 95 % t interval. Rows are appended to benchmarks/results/distill_gain.jsonl one at a time;
the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TEACHER = ROOT / "recipes" / "weights" / "digits-yolo11n.safetensors"
SETTINGS = {
    # images of the splits, schedule, weights tried per method, seeds of the report
    "small": {"train": 800, "test": 400, "epochs": 16, "tries": 2, "report_seeds": (100, 101, 102)},
    "full": {"train": 1600, "test": 1000, "epochs": 40, "tries": 4, "report_seeds": tuple(range(100, 110))},
}  # fmt: skip
TUNE_SEEDS = (0, 1, 2)
# Factors around each method's published or default weight, the most plausible first.
WEIGHTS = {
    "logit": (0.5, 1.0, 2.0, 0.25),
    "ld": (1.0, 2.0, 4.0, 0.5),
    "logit+ld": (1.0,),  # the quickstart's pair, as it stands there: not tuned
    "logit+ld+score_l2": (1.0,),
    "fitnet": (1.0, 5.0, 0.2, 20.0),
    "cwd": (1.0, 5.0, 10.0, 0.2),
    "pkd": (1.0, 3.0, 0.3, 10.0),
    "score_l2": (1.0, 6.0, 0.3, 2.0),
    "distill_model": (1.0, 6.0, 0.3, 2.0),
}
COMBINED = {
    "logit+ld": {"logit": 1.0, "ld": 1.0},
    "logit+ld+score_l2": {"logit": 1.0, "ld": 1.0, "score_l2": 6.0},
}
OPTIONS = {"cwd": {"normalise": "channel"}}


@dataclass(frozen=True)
class Row:
    """One training."""

    method: str
    weight: float
    seed: int
    split: str

    @property
    def key(self) -> tuple[str, float, int, str]:
        return self.method, self.weight, self.seed, self.split


def train(row: Row, data_yaml: str, setting: dict[str, Any], scratch: Path, threads: int) -> dict[str, Any]:
    """Train one row and measure AP on its split."""
    from edgekd.data.config import YoloData, load
    from edgekd.data.pack import build
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.detectors.ultralytics.guard import guard
    from edgekd.recipe.sections import ValidateRecipe
    from edgekd.stages.accuracy import Stopwatch, detect_in_torch, summarise

    guard(scratch / "engine")
    import torch

    torch.set_num_threads(threads)
    watch = Stopwatch()
    folder = scratch / "-".join(str(part) for part in row.key).replace("+", "_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = (_with_engine if row.method == "distill_model" else _with_edgekd)(
        row, data_yaml, setting, folder, threads
    )
    seconds = watch.seconds()
    detector = UltralyticsDetector.opened(Asked("yolo11p", weights, (), 3, "student"))
    data = load(YoloData(format="yolo", path=data_yaml), folder / "data", Path())
    split = data.splits[row.split]
    pack = build(split, (96, 96), 3, folder / "packs")
    found = detect_in_torch(detector, "one2many", pack=pack, columns=None, settings=ValidateRecipe(), title="validate")
    summary = summarise(split, found, data.class_names, ValidateRecipe(), "one2many")
    shutil.rmtree(folder, ignore_errors=True)
    figures = {"ap": summary["ap"], "ap50": summary["ap50"], "seconds": round(seconds, 1)}
    return {"setting": setting["name"], **asdict(row), **figures}


def _arguments(setting: dict[str, Any]) -> dict[str, Any]:
    return {
        "imgsz": 96, "epochs": setting["epochs"], "batch": 16, "nbs": 16, "optimizer": "AdamW", "lr0": 0.005,
        "cos_lr": True, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "mosaic": 0.0, "fliplr": 0.0, "amp": False,
        "patience": 0, "plots": False,
        "cache": True, "val": False,  # the last epoch's weights are taken, whatever the method
    }  # fmt: skip


def _with_edgekd(row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int) -> Path:
    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.class_map import ClassMap
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector
    from edgekd.distill.contract import distiller_type
    from edgekd.training.fit import fit
    from edgekd.training.plan import FitPlan
    from edgekd.training.teacher import Teacher

    weights = COMBINED.get(row.method, {row.method: 1.0})
    methods = tuple(
        (name, distiller_type(name).config_type(weight=weight * row.weight, **OPTIONS.get(name, {})))
        for name, weight in weights.items()
        if name != "control"
    )
    teacher = UltralyticsDetector.opened(Asked("yolo11n", TEACHER, (), 3, "teacher"))
    student = UltralyticsDetector.opened(Asked("yolo11p", None, CLASS_NAMES, 3, "student"))
    plan = FitPlan(
        student=student, initialised=False, data_yaml=Path(data_yaml), train=_arguments(setting), head="one2many",
        seed=row.seed, threads=threads, distillers=methods,
    )  # fmt: skip
    teachers = {"teacher": Teacher(teacher.frozen(), ClassMap.identity(len(CLASS_NAMES)))} if methods else {}
    return fit(plan, teachers, folder, str(row.key)).weights


def _with_engine(row: Row, data_yaml: str, setting: dict[str, Any], folder: Path, threads: int) -> Path:
    """Ultralytics' own distillation: the same student YAML, its trainer, `distill_model` and `dis`."""
    import torch

    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.ultralytics.detector import UltralyticsDetector

    from edgekd.training.engines.trainer import YoloTrainer  # isort: skip  (only to build the student from a width-0.125 YAML)

    teacher = UltralyticsDetector.opened(Asked("yolo11n", TEACHER, (), 3, "teacher"))
    torch.save({"model": teacher.module, "train_args": {}}, folder / "teacher.pt")
    overrides = {
        **_arguments(setting), "model": "yolo11p.yaml", "data": data_yaml, "seed": row.seed, "pretrained": False,
        "save_dir": str(folder / "engine"), "distill_model": str(folder / "teacher.pt"), "dis": row.weight,
        "verbose": False,
    }  # fmt: skip
    torch.set_num_threads(threads)
    trainer = YoloTrainer(overrides=overrides)
    student = UltralyticsDetector.opened(Asked("yolo11p", None, CLASS_NAMES, 3, "student"))
    trainer.prepare(student, False, None, False, None)
    trainer.train()
    return Path(trainer.best)


def tune_rows(setting: dict[str, Any], methods: Sequence[str]) -> Iterator[Row]:
    """Control, then every method and weight, on val; seed by seed, so that a part of them says something already."""
    for seed in TUNE_SEEDS:
        if "control" in methods:
            yield Row("control", 0.0, seed, "val")
        for attempt in range(setting["tries"]):
            for method, weights in WEIGHTS.items():
                if method in methods and attempt < len(weights):
                    yield Row(method, weights[attempt], seed, "val")


def report_rows(setting: dict[str, Any], chosen: dict[str, float], methods: Sequence[str]) -> Iterator[Row]:
    """The chosen weights with fresh seeds, on test."""
    for seed in setting["report_seeds"]:
        for method, weight in {"control": 0.0, **chosen}.items():
            if method in methods:
                yield Row(method, weight, seed, "test")


def choose(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Per method, the weight of the highest mean AP on val."""
    scores: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["split"] == "val" and row["method"] != "control":
            scores[row["method"]][row["weight"]].append(row["ap"])
    return {
        method: max(weights, key=lambda weight: sum(weights[weight]) / len(weights[weight]))
        for method, weights in scores.items()
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean AP on test with a 95 % interval, and paired differences (same seed) to control and to `distill_model`."""
    from edgekd.measure.bootstrap import mean_interval

    by_method: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if row["split"] == "test":
            by_method[row["method"]][row["seed"]] = row["ap"]
    chosen = choose(rows)
    table = []
    for method, scores in by_method.items():
        entry: dict[str, Any] = {"method": method, "weight": chosen.get(method), "seeds": len(scores)}
        entry["ap"] = _interval(mean_interval, list(scores.values()))
        for rival in ("control", "distill_model"):
            shared = sorted(set(scores) & set(by_method.get(rival, {})))
            entry[f"minus_{rival}"] = _interval(
                mean_interval, [scores[seed] - by_method[rival][seed] for seed in shared]
            )
        table.append(entry)
    table.sort(key=lambda entry: -(entry["ap"] or {"estimate": 0})["estimate"])
    controls = [row["ap"] for row in rows if row["method"] == "control" and row["split"] == "val"]
    return {"rows": len(rows), "chosen_weights": chosen, "control_val_ap": controls, "test": table}


def _interval(mean_interval: Any, values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    interval = mean_interval(values)
    return {"estimate": round(interval.estimate, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


@dataclass(frozen=True)
class Bench:
    """Where and how rows are trained."""

    setting: dict[str, Any]
    data_yaml: str
    scratch: Path
    processes: int

    def run(self, wanted: list[Row], rows: list[dict[str, Any]], path: Path) -> None:
        """Train what is missing among `wanted`, append it to `rows` and to the file at `path`."""
        done = {(row["method"], row["weight"], row["seed"], row["split"]) for row in rows}
        missing = [row for row in wanted if row.key not in done]
        with ProcessPoolExecutor(self.processes, mp_context=get_context("spawn")) as pool:
            jobs = [pool.submit(train, row, self.data_yaml, self.setting, self.scratch, 1) for row in missing]
            for count, job in enumerate(as_completed(jobs), start=1):
                result = job.result()
                rows.append(result)
                with path.open("a") as stream:
                    stream.write(json.dumps(result) + "\n")
                print(f"{count}/{len(missing)} {result}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="small")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "distill_gain.jsonl")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distill_gain", help="data and scratch files")
    names = ["control", *WEIGHTS]
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument("--summary", action="store_true", help="print the figures of the rows that are there")
    options = parser.parse_args()
    path = options.out
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    rows = [row for row in rows if row["setting"] == options.setting]  # another schedule is another experiment
    if not options.summary:
        setting = {**SETTINGS[options.setting], "name": options.setting}
        path.parent.mkdir(parents=True, exist_ok=True)
        bench = Bench(setting, _data(options.work, setting), options.work.resolve() / "scratch", options.processes)
        bench.run(list(tune_rows(setting, options.methods)), rows, path)
        bench.run(list(report_rows(setting, choose(rows), options.methods)), rows, path)
    print(json.dumps(summary(rows), indent=2))


def _data(out: Path, setting: dict[str, Any]) -> str:
    from edgekd.data.digits import generate

    counts = {"train": setting["train"], "val": 400, "test": setting["test"]}
    return str(generate(out.resolve() / "digits", imgsz=96, seed=0, **counts))


if __name__ == "__main__":
    main()
