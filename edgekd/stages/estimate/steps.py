"""Seconds a step and memory of a recipe's trainings, by a few real steps of each on some of its images.

It happens in a folder of its own on a sample of the data, and leaves nothing in the process that decides a result.
"""

from __future__ import annotations

import gc
import math
import os
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekd.cores import set_threads
from edgekd.detectors.contract import Recorded
from edgekd.distill.config import EMA
from edgekd.progress import listening
from edgekd.run_dir import RunDir
from edgekd.stages.context import Context
from edgekd.stages.estimate.memory import gpu_peak_bytes, resident_bytes, start_gpu_peak
from edgekd.stages.prepared_file import named_files
from edgekd.stages.teachers import make_teachers
from edgekd.stages.torch_accuracy import found_by
from edgekd.stages.train import Trained, fit_plan
from edgekd.training.balance import REPORT_STEPS
from edgekd.training.distillation import DistillationModule, unwrapped
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.placement import torch_device
from edgekd.training.engines.process import prepare
from edgekd.types import Split

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer

MOST_STEPS, _LEAST_STEPS, _ENOUGH_S = 20, 3, 10.0
_VAL_IMAGES = 32


@dataclass(frozen=True)
class Pace:
    """What a few steps of a training took.

    Attributes:
        steps: that were made.
        setup_s: until the first step was over.
        step_s: of a step behind the first ones.
        image_s: of a validation image, in the validation behind each epoch.
        pause_s: of that validation beside its images, with the checkpoint.
        gpu_bytes: most that torch held on the GPU; None on a CPU.
        resident_bytes: memory of this process and of those that load images.
    """

    steps: int
    setup_s: float
    step_s: float
    image_s: float
    pause_s: float
    gpu_bytes: int | None
    resident_bytes: int


@dataclass(frozen=True)
class Measured:
    """What is known once a few steps were made.

    Attributes:
        trainings: `control` and `student`, or `student` alone.
        images: model (`student`, or a teacher's name) -> seconds per image of its AP in torch.
    """

    trainings: dict[str, Pace]
    images: dict[str, float]


def measure(context: Context, folder: Path) -> Measured:
    """A few steps of control and student, and what models find in a few images.

    Args:
        folder: for the while.

    Raises:
        InputError, EnvironmentFault, DivergedError: as the trainings themselves would.
    """
    recipe = context.bound.recipe
    roles = ("control", "student") if recipe.control and recipe.distill else ("student",)
    try:
        with listening(None, quiet=True), _unchanged(context):
            sample = sampled(context, folder)
            trainings = {role: _trained(sample, role) for role in roles}
            return Measured(trainings, _looked(sample))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sampled(context: Context, folder: Path) -> Context:
    """The same recipe on some of its images, in a folder of its own."""
    data, batch = context.data, int(context.bound.recipe.train.get("batch") or 16)
    splits = {
        "train": spread(data.splits["train"], MOST_STEPS * batch),
        "val": spread(data.splits["val"], _VAL_IMAGES),
    }
    more = data.unlabelled
    if more is not None:
        more = replace(more, split=spread(more.split, MOST_STEPS * batch))
    made = replace(context, run=RunDir(folder, {"stages": {}}), prepared={})
    made.__dict__.update(data=replace(data, splits=splits, unlabelled=more), pair=context.pair)
    return made


def spread(split: Split, most: int) -> Split:
    """At most so many images of a split, from all over it."""
    count = len(split.images)
    if count <= most:
        return split
    images = tuple(split.images[place * count // most] for place in range(most))
    return replace(split, images=images, content_hash=f"{split.content_hash} {most}")


def _trained(sample: Context, role: str) -> Pace:
    """Some steps and one validation."""
    bound = sample.bound
    began = time.monotonic()
    plan = replace(fit_plan(sample, Trained(role)), views=None, prepared=named_files(bound))
    teachers = make_teachers(plan.distillers, sample.pair.teachers) if plan.distillers else {}
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):  # the engine's bars
        trainer = make_trainer(plan, teachers, sample.path / role)
        watch = _Watch(trainer)
        trainer.train()
    return watch.pace(began)


class _Watch:
    """Notes when a trainer's steps end, and ends it after a few of them and one validation."""

    def __init__(self, trainer: StudentTrainer) -> None:
        self._trainer = trainer
        self._ends: list[float] = []
        self._val: dict[str, float] = {}
        self._seen = 0
        self._gpu: int | None = None
        self._resident = 0
        trainer.add_callback("on_train_start", self._start)
        trainer.add_callback("on_train_batch_end", self._step)
        trainer.add_callback("on_train_epoch_end", self._epoch)
        trainer.add_callback("on_val_start", self._look)
        trainer.add_callback("on_val_batch_end", self._looked)
        trainer.add_callback("on_fit_epoch_end", self._end)

    def _start(self, _: Any) -> None:
        start_gpu_peak(self._trainer.device)
        model = unwrapped(self._trainer.model)
        if isinstance(model, DistillationModule):  # behind the first steps, which are slower, with all methods at work
            model.step = max(REPORT_STEPS, model.steps_per_epoch * self._trainer.epochs // 2)

    def _step(self, _: Any) -> None:
        self._ends.append(time.monotonic())
        count = len(self._ends)
        if count == 1:
            self._resident = resident_bytes()
        enough = count >= _LEAST_STEPS and self._ends[-1] - self._ends[0] > _ENOUGH_S
        if enough or count >= MOST_STEPS:
            self._trainer.stop = True

    def _epoch(self, _: Any) -> None:
        self._trainer.stop = True
        self._resident = max(self._resident, resident_bytes())

    def _look(self, _: Any) -> None:
        self._val.setdefault("began", time.monotonic())

    def _looked(self, validator: Any) -> None:
        self._val["ended"] = time.monotonic()
        self._seen = len(validator.dataloader.dataset)

    def _end(self, _: Any) -> None:
        self._val.setdefault("over", time.monotonic())
        self._gpu = gpu_peak_bytes(self._trainer.device)
        self._trainer.validated = False  # no second look at the best checkpoint

    def pace(self, began: float) -> Pace:
        """What was noted; `began` in s, when the training was asked for."""
        first, last, count = self._ends[0], self._ends[-1], len(self._ends)
        skipped = max(1, count // 3)  # batches that lie ready make the first ones quick
        step_s = (last - self._ends[skipped - 1]) / (count - skipped) if count > skipped else 0.0
        val = self._val
        looking = val["ended"] - val["began"] if "ended" in val else 0.0
        return Pace(
            steps=count,
            setup_s=max(first - began - step_s, 0.0),
            step_s=step_s or first - began,
            image_s=looking / max(self._seen, 1),
            pause_s=max(val["over"] - last - looking, 0.0),
            gpu_bytes=self._gpu,
            resident_bytes=self._resident,
        )


def _looked(sample: Context) -> dict[str, float]:
    """Seconds per image of the AP of teachers and student."""
    pair, val = sample.pair, sample.data.splits["val"]
    sides = {name: (side.detector, side.head, side.columns) for name, side in pair.teachers.items() if name != EMA}
    found = {}
    for name, (detector, head, columns) in {**sides, "student": (pair.student, pair.head, None)}.items():
        if isinstance(detector, Recorded):
            found[name] = 0.0
            continue
        began = time.monotonic()
        found_by(sample, detector, head, val, title=name, columns=columns)
        found[name] = (time.monotonic() - began) / len(val.images)
    return found


@contextmanager
def _unchanged(context: Context) -> Iterator[None]:
    """What a training sets for its process is then as it was: random numbers, determinism, threads, engine settings."""
    import torch

    numbers, places = random.getstate(), np.random.get_state()
    device = torch_device(context.bound.recipe.train.get("device"))
    on_gpu = device.type == "cuda"  # other GPUs are left alone: to ask one of them takes its memory
    drawn = torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_gpu else None
    cudnn, strict = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    warns, filling = torch.is_deterministic_algorithms_warn_only_enabled(), _filling()
    switches = cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory
    kept = {name: os.environ.get(name) for name in ("CUBLAS_WORKSPACE_CONFIG", "PYTHONHASHSEED")}
    try:
        yield
    finally:
        random.setstate(numbers)
        np.random.set_state(places)
        torch.set_rng_state(drawn[0])
        if drawn[1] is not None:
            torch.cuda.set_rng_state(drawn[1], device)
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = switches
        for name, value in kept.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        prepare(context.path / ".engine")
        set_threads(context.bound.recipe.threads)
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()


def _filling() -> Any:
    """torch's module with the switch that its types do not know."""
    import torch

    return torch.utils.deterministic


def steps_of(images: int, batch: int) -> int:
    """Steps of an epoch."""
    return math.ceil(images / batch)


def training_steps(context: Context, roles: Sequence[str]) -> int:
    """Steps of all trainings of a recipe together."""
    recipe, images = context.bound.recipe, len(context.data.splits["train"].images)
    steps = steps_of(images, int(recipe.train.get("batch") or 16)) * int(recipe.train.get("epochs") or 100)
    return steps * len(roles) * max(len(recipe.seeds), 1)
