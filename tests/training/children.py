"""Trainings in processes that may be killed. They are forked from a server that has everything imported already."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

from edgekd.atomic import remove_leftovers
from edgekd.errors import EdgekdError
from edgekd.training.fit import fit
from edgekd.training.resume import FILE, Resume
from tests.training.helpers import methods, plan, teachers

EVERY_BATCH, NEVER = 1e-6, 60.0  # minutes between two saved states; half of a training's time goes into them
# Everything that a resume has to get right: mosaics of images in memory, which end in the last epoch; steps of the
# optimiser that span epochs; a warm-up; schedules of two methods with adapters.
TRAIN: dict[str, Any] = {
    "epochs": 3, "batch": 8, "nbs": 20, "mosaic": 1.0, "close_mosaic": 1, "warmup_epochs": 1.0,
}  # fmt: skip
METHODS: dict[str, dict[str, Any]] = {
    "logit": {"schedule": {"warmup_epochs": 1}, "weight": "auto"}, "fitnet": {"schedule": {"until_epoch": 2}},
}  # fmt: skip

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])


def train(data_yaml: Path, folder: Path, minutes: float = NEVER) -> Resume:
    """Train in `folder`, or go on there; as in a run directory, what a killed process left goes first."""
    remove_leftovers(folder)
    resume = Resume(folder / FILE, {"test": 1}, minutes)
    fit(plan(data_yaml, distillers=methods(**METHODS), **TRAIN), teachers(), folder, "student", resume)
    return resume


def files(folder: Path) -> dict[str, bytes]:
    """What a training leaves, but for its state."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != FILE}


def start(data_yaml: Path, folder: Path, killed_at_replace: int | None = None) -> Any:
    """Begin in a process of its own, whose exit code is edgekd's.

    Args:
        killed_at_replace: SIGKILL in the middle of so many-th write of a file, when it is not yet in its place.
    """
    process = _server.Process(target=_child, args=(data_yaml, folder, killed_at_replace))
    process.start()
    return process


def _child(data_yaml: Path, folder: Path, killed_at_replace: int | None) -> None:
    if killed_at_replace is not None:
        _kill_at_replace(killed_at_replace)
    try:
        train(data_yaml, folder, EVERY_BATCH)
    except EdgekdError as error:
        raise SystemExit(error.exit_code) from None


def _kill_at_replace(number: int) -> None:
    original, calls = Path.replace, iter(range(1, 1_000_000))

    def replace(self: Path, target: Any) -> Path:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, target)

    Path.replace = replace  # type: ignore[assignment, method-assign]
