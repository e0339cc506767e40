"""Does distillation help, and which method most? Control, edgekd's methods, and Ultralytics' own `distill_model`.

    python benchmarks/distill_gain.py                       # weights tuned: about 3 hours on 2 quiet cores
    python benchmarks/distill_gain.py --methods all         # every method with `weight: auto`: screened, then the best
    python benchmarks/distill_gain.py --methods all --setting screen      # the screening alone
    python benchmarks/distill_gain.py --setting full        # days
    python benchmarks/distill_gain.py --setting rtdetr      # every method on two small RT-DETRs; their rows: a day
    python benchmarks/distill_gain.py --setting rtmdet      # MKD and mmyolo's CWD on two small RTMDets, five seeds
    python benchmarks/distill_gain.py --setting photographs --data D/data.yaml --methods control distill_model pkd
    python benchmarks/distill_gain.py --methods all --device 0 --processes 14 --minutes 10       # on a GPU
    python benchmarks/distill_gain.py --methods control distill_model logit+ld
    python benchmarks/distill_gain.py --summary             # print what is there

Every row has the same teacher, student, initialisation, batches and schedule; only the loss differs. Weights are chosen
on val with seeds 0-2, the same number of tries for each method and for `distill_model`; results are then measured on
test with fresh seeds, with a 95 % t interval. With `--methods all` nothing is tuned: each method has `weight: auto`, is
screened with one seed and half the schedule on val, and the best of them, with those that README speaks of, go on to
test. Rows are appended to benchmarks/results/distill_gain.jsonl one at a time; the same command goes on where it was
stopped. Rows of a GPU and of a CPU are never mixed: `--device` decides which are read. The photographs are anybody's in
the YOLO layout; their val split is what is reported on, nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import TimeoutError, get_context
from pathlib import Path
from statistics import median
from typing import Any

from gain_rows import COMBINED, PAIRS, ROOT, Models, Row, attempt

SETTINGS = {
    # images of the splits, schedule, weights tried per method, seeds of the report; who learns from whom, if no YOLO
    "screen": {"train": 800, "test": 400, "epochs": 8, "tries": 0, "report_seeds": ()},
    "small": {"train": 800, "test": 400, "epochs": 16, "tries": 2, "report_seeds": (100, 101, 102)},
    "full": {"train": 1600, "test": 1000, "epochs": 40, "tries": 4, "report_seeds": tuple(range(100, 110))},
    "rtdetr": {"train": 1600, "test": 400, "epochs": 30, "tries": 0, "report_seeds": (), "pair": "rtdetr"},
    "rtmdet": {"train": 800, "test": 400, "epochs": 24, "tries": 0, "report_seeds": (), "pair": "rtmdet"},
    "photographs": {"epochs": 30, "tries": 0, "report_seeds": (), "pair": "photographs"},
}  # fmt: skip
TUNE_SEEDS = (0, 1, 2)
BEST, BEST_SEEDS = 8, (100, 101, 102, 103, 104)
CLAIMED = ("logit+ld+score_l2",)  # of what README shows figures
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


def screen_rows(methods: Sequence[str]) -> Iterator[Row]:
    """Everything once, on val."""
    yield Row("control", 0.0, TUNE_SEEDS[0], "val")
    yield Row("distill_model", 6.0, TUNE_SEEDS[0], "val")
    for method in methods:
        yield Row(method, "auto", TUNE_SEEDS[0], "val")


def query_rows(methods: Sequence[str]) -> Iterator[Row]:
    """Of a pair of detectors with queries: everything once, on val, as the screening has it."""
    yield Row("control", 0.0, TUNE_SEEDS[0], "val")
    for method in methods:
        yield Row(method, "auto", TUNE_SEEDS[0], "val")


def rtmdet_rows() -> Iterator[Row]:
    """MKD against mmyolo's CWD: with the published weights, which are 1 for both, and with automatic ones."""
    for seed in BEST_SEEDS:
        yield Row("control", 0.0, seed, "test")
        for method in ("mkd", "cwd"):
            for weight in ("auto", 1.0):
                yield Row(method, weight, seed, "test")


def photographs_rows(methods: Sequence[str]) -> Iterator[Row]:
    """The methods named, three seeds, on the split that the source held back."""
    for seed in BEST_SEEDS[:3]:
        for method in methods:
            known = {"control": 0.0, "distill_model": 6.0, **dict.fromkeys(COMBINED, 1.0)}
            yield Row(method, known.get(method, "auto"), seed, "val")


def best_rows(screened: Sequence[dict[str, Any]]) -> Iterator[Row]:
    """The best of the screening with fresh seeds, on test; control, the engine's own and what is claimed as well."""
    automatic = [row for row in screened if row["weight"] == "auto"]
    best = sorted(automatic, key=lambda row: -row["ap"])[:BEST]
    chosen = {"control": 0.0, "distill_model": 6.0, **dict.fromkeys(CLAIMED, 1.0)}
    for seed in BEST_SEEDS:
        for method, weight in chosen.items():
            yield Row(method, weight, seed, "test")
        for row in best:
            yield Row(row["method"], "auto", seed, "test")


def tune_rows(setting: dict[str, Any], methods: Sequence[str]) -> Iterator[Row]:
    """Control, then every method and weight, on val; seed by seed, so that a part of them says something already."""
    for seed in TUNE_SEEDS:
        if "control" in methods:
            yield Row("control", 0.0, seed, "val")
        for turn in range(setting["tries"]):
            for method, weights in WEIGHTS.items():
                if method in methods and turn < len(weights):
                    yield Row(method, weights[turn], seed, "val")


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
    """Mean AP on test with a 95 % interval, and paired differences (same seed) to control and to `distill_model`.

    `time` and `peak_mb` are of whole trainings: the median ratio of seconds to the control's of the same seed.
    """
    from edgekd.measure.bootstrap import mean_interval

    tested: dict[tuple[str, float | str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["split"] == "test" or row["setting"] == "photographs":
            tested[row["method"], row["weight"]][row["seed"]] = row
    controls = next((found for (method, _), found in tested.items() if method == "control"), {})
    engines = next((found for (method, _), found in tested.items() if method == "distill_model"), {})
    table = []
    for (method, weight), found in tested.items():
        entry: dict[str, Any] = {"method": method, "weight": weight, "seeds": len(found)}
        entry["ap"] = _interval(mean_interval, [row["ap"] for row in found.values()])
        for name, rival in (("control", controls), ("distill_model", engines)):
            shared = sorted(set(found) & set(rival))
            entry[f"minus_{name}"] = _interval(
                mean_interval, [found[seed]["ap"] - rival[seed]["ap"] for seed in shared]
            )
        times = [row["seconds"] / controls[seed]["seconds"] for seed, row in found.items() if seed in controls]
        entry["time"] = round(median(times), 2) if times else None
        entry["peak_mb"] = max((row["peak_mb"] for row in found.values() if "peak_mb" in row), default=None)
        table.append(entry)
    table.sort(key=lambda entry: -(entry["ap"] or {"estimate": 0})["estimate"])
    on_val = [row["ap"] for row in rows if row["method"] == "control" and row["split"] == "val"]
    return {"rows": len(rows), "chosen_weights": choose(rows), "control_val_ap": on_val, "test": table}


def screened(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The screening, best first: AP of one seed on val, and its difference to the control."""
    control = next((row["ap"] for row in rows if row["method"] == "control"), None)
    return [
        {
            "method": row["method"], "ap": round(row["ap"], 4), "seconds": row["seconds"],
            "minus_control": None if control is None else round(row["ap"] - control, 4),
        }
        for row in sorted(rows, key=lambda row: -row["ap"])
    ]  # fmt: skip


def _interval(mean_interval: Any, values: list[float]) -> dict[str, float] | None:
    if len(values) < 2:
        return None
    interval = mean_interval(values)
    return {"estimate": round(interval.estimate, 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


class Rows:
    """What was trained of one setting; another schedule is another experiment, and so is another device."""

    def __init__(self, path: Path, setting: str, device_name: str) -> None:
        lines = path.read_text().splitlines() if path.is_file() else []
        self.path, self.setting = path, setting
        rows = [{"device": "cpu", **json.loads(line)} for line in lines]
        self.rows = [row for row in rows if row["setting"] == setting and row["device"] == device_name]

    def missing(self, wanted: Iterable[Row]) -> list[Row]:
        """What is not there yet, each once."""
        done = {(row["method"], row["weight"], row["seed"], row["split"]) for row in self.rows}
        return [row for row in dict.fromkeys(wanted) if row.key not in done]

    def add(self, row: dict[str, Any]) -> None:
        """Keep one."""
        self.rows.append(row)
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


@dataclass(frozen=True)
class Bench:
    """Where and how rows are trained: each on one thread, in a process of its own, on a GPU in one of a few.

    Attributes:
        data: the photographs' data.yaml; None: `digits`.
        until: no row is begun or waited for after this (`time.monotonic`).
    """

    work: Path
    processes: int
    device: str
    device_name: str
    data: Path | None
    until: float

    def run(self, wanted: Iterable[Row], into: Rows) -> None:
        """Train what is missing, the teacher first."""
        setting = {"pair": "yolo", **SETTINGS[into.setting], "name": into.setting}
        setting |= {"device": self.device, "device_name": self.device_name}
        missing = into.missing(wanted)
        if not missing:
            return
        data_yaml = str(self.data) if self.data else _data(self.work, setting)
        _teach(PAIRS[setting["pair"]], self.data, self.device)
        do = partial(attempt, data_yaml=data_yaml, setting=setting, scratch=self.work / "scratch", threads=1)
        alone = 1 if self.device == "cpu" else None  # peaks of resident memory are of a process
        with get_context("spawn").Pool(self.processes, maxtasksperchild=alone) as pool:
            results = pool.imap_unordered(do, missing)
            for count in range(1, len(missing) + 1):
                try:
                    result = results.next(max(self.until - time.monotonic(), 0.1))
                except TimeoutError:
                    raise SystemExit(f"time is up: {len(missing) - count + 1} rows of {into.setting} left") from None
                if "error" not in result:
                    into.add(result)
                print(f"{count}/{len(missing)} {result}", file=sys.stderr, flush=True)


def _data(out: Path, setting: dict[str, Any]) -> str:
    from edgekd.data.digits import generate

    counts = {"train": setting["train"], "val": 400, "test": setting["test"]}
    return str(generate(out / f"digits-{setting['train']}", imgsz=96, seed=0, **counts))


def _teach(pair: Models, data: Path | None, device: str) -> None:
    """Train the teacher that its recipe makes, if it is not there."""
    if pair.recipe is None or pair.weights.is_file():
        return
    sets = [f"train.device={device}", *([f"data.path={data.resolve()}"] if data else [])]
    command = [sys.executable, "-m", "edgekd", "run", str(pair.recipe), "--out", str(pair.weights.parents[1])]
    subprocess.run([*command, *(part for one in sets for part in ("--set", one))], check=True)


def _device_name(device: str) -> str:
    """Rows go by it; given in full it names rows of a machine that is not this one."""
    if not device.isdigit():
        return device
    import torch

    return torch.cuda.get_device_name(int(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=sorted(SETTINGS), default="small")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "distill_gain.jsonl")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "distill_gain", help="data and scratch files")
    parser.add_argument("--methods", nargs="+", default=["control", *WEIGHTS], help="names, or all")
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side, one thread each")
    parser.add_argument(
        "--device", default="cpu", help="cpu, or the number of a GPU that they share; its name reads rows"
    )
    parser.add_argument("--data", type=Path, help="data.yaml of --setting photographs")
    parser.add_argument("--minutes", type=float, default=30 * 24 * 60, help="stop then; what is finished is kept")
    parser.add_argument("--summary", action="store_true", help="print the figures of the rows that are there")
    options = parser.parse_args()
    if options.setting == "photographs" and not (options.data or options.summary):
        parser.error("--setting photographs needs --data, the data.yaml of photographs in the YOLO layout")
    pair = {"pair": "yolo", **SETTINGS[options.setting]}["pair"]
    everything = every_method(pair)
    if strange := set(options.methods) - {"all", "control", "distill_model", *everything, *WEIGHTS}:
        parser.error(f"no method: {', '.join(sorted(strange))}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    name = _device_name(options.device)
    quick, whole = (Rows(options.out, setting, name) for setting in ("screen", options.setting))
    until = time.monotonic() + 60 * options.minutes
    bench = Bench(options.work.resolve(), options.processes, options.device, name, options.data, until)
    if not options.summary:
        train_all(bench, options.setting, options.methods, everything, quick, whole)
    print(json.dumps({**summary(whole.rows), "screened": screened(quick.rows)}, indent=2))


def train_all(
    bench: Bench, name: str, methods: Sequence[str], everything: Sequence[str], quick: Rows, whole: Rows
) -> None:
    """Everything that is missing of a setting, in the order in which one depends on another."""
    if name == "rtdetr":
        bench.run(query_rows(everything), whole)
    elif name == "rtmdet":
        bench.run(rtmdet_rows(), whole)
    elif name == "photographs":
        bench.run(photographs_rows(methods), whole)
    elif "all" in methods:
        bench.run(screen_rows(everything), quick)
        if name != "screen":
            bench.run(best_rows(quick.rows), whole)
    else:
        bench.run(tune_rows(SETTINGS[name], methods), whole)
        bench.run(report_rows(SETTINGS[name], choose(whole.rows), methods), whole)


def every_method(pair: str = "yolo") -> list[str]:
    """All of edgekd's that serve the pair, but those that prepare; of YOLOs the rows of several, and a gradient's share
    of the best known."""
    from edgekd.data.digits import CLASS_NAMES
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector, trainable
    from edgekd.distill.contract import Pair, distiller_names, distiller_type
    from edgekd.distill.requirements import unmet

    package, models = "edgekd.", PAIRS[pair]
    student, teacher = (
        trainable(open_detector(None, Asked(model, None, CLASS_NAMES, 3, model)), model)
        for model in (models.student, models.teacher)
    )
    sides = Pair.of(student.spec, teacher, range(len(CLASS_NAMES)), CLASS_NAMES)
    kinds = {name: distiller_type(name) for name in distiller_names()}
    own = [
        name
        for name, kind in kinds.items()
        if kind.__module__.startswith(package) and not kind.prepares and not unmet(kind.requires, sides)
    ]
    if pair != "yolo":
        return own
    return [*own, *COMBINED, *(f"{name}:gradient" for name in ("logit", "score_l2", *COMBINED))]


if __name__ == "__main__":
    main()
