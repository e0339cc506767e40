"""The gain table: control, the quickstart's methods and the engine's own distillation, seed by seed, side by side."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from edgekd.cores import usable_cores
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.evidence.experiments.places import ENGINE, TEACHER, trained_on, versions
from edgekd.evidence.gain_rows import How, Models, accuracy, with_engine, with_methods
from edgekd.evidence.shipped import CLASSES, MODEL, QUICKSTART, arguments, quickstart_methods, weights
from edgekd.training.engines.process import SETTINGS_FOLDER

NAME = "gain"
ROWS = ("control", "quickstart", "distill_model")
STUDENT = "yolo11p"


def offers(setting: Setting) -> Iterator[Experiment]:
    """Once."""
    seeds = len(setting.scale.gain_seeds)
    title = f"AP on digits of {', '.join(ROWS)}, {seeds} seeds, {setting.scale.gain_epochs} epochs"
    yield Experiment(NAME, title, "gain", 70, 420, lacking=setting.lacks_gpus(), sources=(*ENGINE, *TEACHER))


def run(work: Work) -> None:
    """Each training in a process of its own, seed by seed, so that a part of them says something already."""
    from edgekd.data.digits import generate

    scale = work.scale
    counts = {
        "train": scale.gain_images,
        "val": 8,
        "test": max(scale.ap_images, 16) * (2 if scale.device == "cuda" else 1),
    }
    data = generate(work.folder / "digits", imgsz=scale.ap_px, seed=0, **counts)
    device = "0" if scale.device == "cuda" else "cpu"
    train = {**arguments(scale.ap_px, scale.gain_epochs, 16), "cache": True, "val": False, "workers": 0}
    how = How(Models(MODEL, weights(), STUDENT, "one2many"), CLASSES, data, train, _threads(work), device)
    jobs = [(name, seed) for seed in scale.gain_seeds for name in ROWS]
    found: list[dict[str, Any]] = []
    do = partial(_row, how=how, size_px=scale.ap_px, folder=work.folder)
    with get_context("spawn").Pool(scale.side_by_side, maxtasksperchild=1) as pool:
        for row in pool.imap_unordered(do, jobs):
            found.append(row)
            work.keep(rows=sorted(found, key=lambda one: (one["seed"], one["method"])), **summary(found))
    if fault(work.figures) is None:
        work.shows("gain table", trained_on(work), (*ENGINE, *TEACHER), versions(work))


def fault(figures: Mapping[str, Any]) -> str | None:
    """Trainings that could not be done, the first with its reason."""
    rows = figures.get("rows", ())
    failed = [row for row in rows if "error" in row]
    if not failed:
        return None
    first = failed[0]
    return f"{len(failed)} of {len(rows)} trainings failed: {first['method']}, seed {first['seed']}: {first['error']}"


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean AP, and differences within seeds to the control and to the engine's own, with 95 % t intervals."""
    aps: dict[str, dict[int, float]] = defaultdict(dict)
    for row in rows:
        if "ap" in row:
            aps[row["method"]][row["seed"]] = row["ap"]
    pairs = (("quickstart", "control"), ("distill_model", "control"), ("quickstart", "distill_model"))
    return {
        "ap": {name: _interval(list(found.values())) for name, found in aps.items()},
        "gain": {
            f"{one} - {other}": _interval(
                [aps[one][seed] - aps[other][seed] for seed in sorted(set(aps[one]) & set(aps[other]))]
            )
            for one, other in pairs
        },
    }


def _interval(values: Sequence[float]) -> dict[str, Any] | None:
    from edgekd.measure.bootstrap import mean_interval

    if not values:
        return None
    if len(values) == 1:
        return {"estimate": round(values[0], 4), "low": None, "high": None, "seeds": 1}
    found = mean_interval(list(values))
    return {
        "estimate": round(found.estimate, 4), "low": round(found.low, 4), "high": round(found.high, 4),
        "seeds": len(values),
    }  # fmt: skip


def _row(job: tuple[str, int], how: How, size_px: int, folder: Path) -> dict[str, Any]:
    """One training; the reason why it could not be, others go on."""
    from edgekd.stages.accuracy import Stopwatch

    name, seed = job
    place = folder / f"{name}-{seed}"
    place.mkdir()
    os.environ[SETTINGS_FOLDER] = str(place / "settings")
    try:
        watch = Stopwatch()
        trained = (
            with_engine(how, QUICKSTART["score_l2"], seed, place)
            if name == "distill_model"
            else with_methods(how, quickstart_methods() if name == "quickstart" else (), seed, place)
        )
        seconds = round(watch.seconds(), 1)
        return {"method": name, "seed": seed, "seconds": seconds, **accuracy(how, trained, "test", size_px, place)}
    except Exception as error:  # whatever stops one row
        return {"method": name, "seed": seed, "error": f"{type(error).__name__}: {error}"}


def _threads(work: Work) -> int:
    """The cores, shared among the trainings."""
    return max(1, usable_cores() // work.scale.side_by_side)


register("gain", offers, run, fault=fault)
