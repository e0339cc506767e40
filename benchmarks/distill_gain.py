"""Does distillation help, and which method most? Control, edgekd's methods, and Ultralytics' own `distill_model`.

    python benchmarks/distill_gain.py                       # weights tuned: about 3.5 hours on 2 quiet cores
    python benchmarks/distill_gain.py --methods all         # every method with `weight: auto`: screened, then the best
    python benchmarks/distill_gain.py --methods all --setting screen      # the screening alone
    python benchmarks/distill_gain.py --setting full        # days
    python benchmarks/distill_gain.py --setting rtdetr      # what is made for queries, on two small RT-DETRs
    python benchmarks/distill_gain.py --setting rtmdet      # MKD and mmyolo's CWD on two small RTMDets, five seeds
    python benchmarks/distill_gain.py --setting faster-rcnn # the recipe digits-faster-rcnn, three seeds; so the others
    python benchmarks/distill_gain.py --setting photographs --data D/data.yaml --methods control distill_model pkd
    python benchmarks/distill_gain.py --methods all --device 0 --processes 14 --minutes 10       # on a GPU
    python benchmarks/distill_gain.py --methods control distill_model logit+ld
    python benchmarks/distill_gain.py --summary             # print what is there

Every row has the same teacher, student, initialisation, batches and schedule; only the loss differs. Weights are chosen
on val with seeds 0-2, the same number of tries for each method and for `distill_model`; results are then measured on
test with fresh seeds, with a 95 % t interval. With `--methods all` nothing is tuned: each method has `weight: auto`, is
screened with one seed and half the schedule on val, and the best of them, with those that README speaks of, go on to
test. Small RT-DETRs begin with the same weights; each method made for queries has a share of the loss, and one of the
gradient, with one seed on val, the better of the two gets two seeds more, and the two best methods go on to test. Rows
are appended to benchmarks/results/distill_gain.jsonl one at a time; the same command goes on where it was stopped. Rows
of a GPU and of a CPU are never mixed: `--device` decides which are read. The photographs are anybody's in the YOLO
layout; their val split is what is reported on, nothing is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import TimeoutError, get_context
from pathlib import Path
from typing import Any

import kept
from gain_plan import (
    FIXED,
    ON_QUERIES,
    SETTINGS,
    TUNED,
    best_query_rows,
    best_rows,
    choose,
    every_method,
    more_query_rows,
    photographs_rows,
    query_rows,
    report_rows,
    screen_rows,
    tune_rows,
)
from gain_rows import PAIRS, ROOT, Models, Row, attempt
from gain_summary import screened, summary


class Rows:
    """What was trained of one setting; another schedule is another experiment, and so is another device."""

    def __init__(self, path: Path, setting: str, device_name: str) -> None:
        self.path, self.setting = path, setting
        rows = [{"device": "cpu", **row} for row in kept.read(path)]
        self.rows = [row for row in rows if row["setting"] == setting and row["device"] == device_name]

    def missing(self, wanted: Iterable[Row]) -> list[Row]:
        """What is not there yet, each once."""
        done = {(row["method"], row["weight"], row["seed"], row["split"]) for row in self.rows}
        return [row for row in dict.fromkeys(wanted) if row.key not in done]

    def add(self, row: dict[str, Any]) -> None:
        """Keep one."""
        self.rows.append(row)
        kept.add(self.path, row)


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
        """Train what is missing, what rows begin with first."""
        setting = {"pair": "yolo", **SETTINGS[into.setting], "name": into.setting}
        setting |= {"device": self.device, "device_name": self.device_name}
        missing = into.missing(wanted)
        if not missing:
            return
        data_yaml = str(self.data) if self.data else _data(self.work, setting)
        _make(PAIRS[setting["pair"]], self.data, self.device)
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


def _make(pair: Models, data: Path | None, device: str) -> None:
    """Train what rows begin with and is not there: the teacher, and the student's first weights."""
    sets = [f"train.device={device}", *([f"data.path={data.resolve()}"] if data else [])]
    for weights, maker in pair.made_by.items():
        if maker.suffix == ".py":
            command = [sys.executable, str(maker), "--out", str(weights.parent)]
        else:
            command = [sys.executable, "-m", "edgekd", "run", str(maker), "--out", str(weights.parents[1])]
            command += [part for one in sets for part in ("--set", one)]
        if not weights.is_file():
            subprocess.run(command, check=True)


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
    parser.add_argument("--methods", nargs="+", default=[], help="names, or all; default: those that a setting is for")
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
    everything = [] if options.setting in FIXED else every_method(pair)
    peers = [] if PAIRS[pair].start else ["distill_model"]  # the engine's own begins with random weights
    if strange := set(options.methods) - {"all", "control", *peers, *everything}:
        parser.error(f"no method: {', '.join(sorted(strange))}")
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
        chosen = everything if "all" in methods else methods or ON_QUERIES
        bench.run(query_rows([one for one in chosen if one != "control"]), whole)
        bench.run(more_query_rows(whole.rows), whole)
        bench.run(best_query_rows(whole.rows), whole)
    elif name in FIXED:
        bench.run(FIXED[name](), whole)
    elif name == "photographs":
        bench.run(photographs_rows(methods or TUNED), whole)
    elif "all" in methods:
        bench.run(screen_rows(everything), quick)
        if name != "screen":
            bench.run(best_rows(quick.rows), whole)
    else:
        bench.run(tune_rows(SETTINGS[name], methods or TUNED), whole)
        bench.run(report_rows(SETTINGS[name], choose(whole.rows), methods or TUNED), whole)


if __name__ == "__main__":
    main()
