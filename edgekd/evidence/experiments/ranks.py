"""Two processes that train together: by NCCL on two GPUs, by gloo on a CPU."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator

from edgekd.atomic import read_json
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments import runs
from edgekd.evidence.experiments.places import ENGINE, RANKS, trained_on, versions
from edgekd.files import read_text

NAME = "two ranks"


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    how = "NCCL" if setting.scale.device == "cuda" else "gloo"
    title = f"a distillation by two processes that meet by {how}"
    yield Experiment(NAME, title, "ranks", 45, 180, lacking=setting.lacks_gpus(2), sources=(*ENGINE, *RANKS))


def run(work: Work) -> None:
    """AP, losses of the epochs, and the time, of two processes and of one."""
    for count in (2, 1):
        more = {"gpus_per_node": 2} if count == 2 else {}
        recipe, out = runs.recipe(work, f"ranks-{count}", **more), work.folder / f"ranks-{count}"
        began = time.monotonic()
        runs.finish(recipe, out)
        seconds = round(time.monotonic() - began, 1)
        metrics = read_json(out / "student" / "metrics.json")
        epochs = list(csv.DictReader(io.StringIO(read_text(out / "student" / "epochs.csv"))))
        work.keep(**{f"of {count}": {"ap": metrics["ap"], "seconds": seconds, "epochs": epochs}})
        if count == 2:
            how = "NCCL" if work.scale.device == "cuda" else "gloo"
            words = [*trained_on(work), how]
            work.shows(NAME, words, (*ENGINE, *RANKS), versions(work))


register("ranks", offers, run)
