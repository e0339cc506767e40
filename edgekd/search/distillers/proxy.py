"""The proxy that judges candidates: the data, the student that all trials start from, and how a trial is trained.

Trials share the warm-started student, the images, their order and every seed, so their scores are paired. Neither val
nor test has a part in it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekd.data import pack, train_view
from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector, Trainable
from edgekd.distill.config import MAIN
from edgekd.errors import InputError
from edgekd.search.distillers.cached_teacher import CachedTeacher, needs_of
from edgekd.search.distillers.candidates import Candidate, methods_of
from edgekd.search.distillers.held_out import Sides, proxy_data, sides_of
from edgekd.search.distillers.space import Space
from edgekd.stages.accuracy import detect_in_torch, summarise
from edgekd.stages.binding import file_hash
from edgekd.stages.context import Context
from edgekd.stages.teachers import make_teachers
from edgekd.training.arguments import split_arguments
from edgekd.training.engines.defaults import engine_defaults
from edgekd.training.engines.placement import torch_device
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan, Watcher
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher

PASSES, WARM_PASSES = 24, 0  # over the proxy's images, by default
MOST_IMAGES, MOST_HELD_OUT = 5_000, 1_000
_VIEW, _WARM = "proxy/view", "proxy/warm"
_WARM_UP = 0.1  # of a trial's passes: the optimiser begins anew
# Behind a warm student: with all of it, the first steps undo what it has learnt: docs/decisions.md.
_LR_FACTOR = 0.2


@dataclass(frozen=True)
class Extent:
    """How much a trial trains.

    Attributes:
        images, held_out: of train, that are trained on, and that the AP is measured on.
        steps_per_pass: batches in one pass over the images.
        passes, warm_passes: of a trial, and of the student before all trials.
        lr_factor: of the recipe's first learning rate, for a trial.
    """

    images: int
    held_out: int
    steps_per_pass: int
    passes: int
    warm_passes: int
    lr_factor: float

    @property
    def steps(self) -> int:
        """Of a whole trial."""
        return self.steps_per_pass * self.passes


def extent_of(context: Context) -> Extent:
    """What the recipe says, and what is chosen for it.

    Raises:
        InputError: train has fewer images.
    """
    asked, train = context.bound.recipe.search.proxy, len(context.data.splits["train"].images)
    held_out = asked.held_out or max(1, min(train // 4, MOST_HELD_OUT))
    sides = _sides(context, held_out)
    images = asked.images or max(1, min(train // 2, MOST_IMAGES, len(sides.others)))
    _require_enough(context, sides, images, held_out)
    batch = int(context.bound.recipe.train.get("batch", 16))
    per_pass = max(1, -(-images // batch))

    def passes(steps: int | None, default: int) -> int:
        return default if steps is None else max(1, round(steps / per_pass)) if steps else 0

    warm = passes(asked.warm_steps, WARM_PASSES)
    factor = asked.lr_factor or (_LR_FACTOR if warm else 1.0)
    return Extent(images, held_out, per_pass, passes(asked.steps, PASSES), warm, factor)


def _sides(context: Context, held_out: int) -> Sides:
    recipe, train = context.bound.recipe, context.data.splits["train"]
    return sides_of(train.images, held_out, recipe.search.proxy.group, recipe.seed, context.bound.where)


def _require_enough(context: Context, sides: Sides, images: int, held_out: int) -> None:
    where, train = f"{context.bound.where}: search.proxy", len(context.data.splits["train"].images)
    if images + held_out > train:
        raise InputError(
            f"{where}: {images} images and {held_out} held out are {images + held_out}, but train has {train}; lower "
            "images or held_out"
        )
    if sides.groups is None:
        return
    (count, every), left = sides.groups, len(sides.others)
    if len(sides.held_out) < held_out or images > left:
        raise InputError(
            f"{where}: {count} of {every} groups give {len(sides.held_out)} of {held_out} images to hold out, and the "
            f"others {left} to train on, given images: {images}; lower images or held_out"
        )


def check_size(context: Context) -> None:
    """Refuse a size of images that the student would not be trained at.

    Raises:
        InputError: it is not a multiple of the student's largest stride.
    """
    size, multiple = context.bound.recipe.search.proxy.imgsz, max(context.pair.student.spec.size_multiple, 32)
    if size is not None and size % multiple:
        down, up = size - size % multiple, size + multiple - size % multiple
        near = f"{down} or {up}" if down else str(up)
        raise InputError(
            f"{context.bound.where}: search.proxy.imgsz: {size} is not a multiple of {multiple}, the student's largest "
            f"stride; choose {near}"
        )


class Proxy:
    """Trains and judges candidates of one search."""

    def __init__(self, context: Context, space: Space) -> None:
        self.context, self.space = context, space
        self.extent = extent_of(context)
        check_size(context)
        sides, seed = _sides(context, self.extent.held_out), context.bound.recipe.seed
        self.data = proxy_data(context.data, sides, self.extent.images, self.extent.held_out, seed)

    @property
    def size_px(self) -> int:
        """Of the square images."""
        return self.context.bound.recipe.search.proxy.imgsz or self.context.bound.recipe.imgsz_px

    def identity(self) -> dict[str, Any]:
        """What decides every score beside the candidate."""
        context, recipe = self.context, self.context.bound.recipe
        assert recipe.teacher is not None
        return {
            "data": {name: split.content_hash for name, split in self.data.splits.items()},
            "class_names": list(self.data.class_names),
            "student": recipe.student.model_dump(mode="json"),
            "student_weights": file_hash(context.bound.weights_path(recipe.student)),
            "teacher": recipe.teacher.model_dump(mode="json"),
            "teacher_weights": file_hash(context.bound.weights_path(recipe.teacher)),
            "train": split_arguments(recipe.train)[0],
            "size_px": self.size_px,
            "steps": self.extent.steps,
            "warm_steps": self.extent.steps_per_pass * self.extent.warm_passes,
            "lr_factor": self.extent.lr_factor,
            "seed": recipe.seed,
            "threads": recipe.threads,
        }

    def warm_up(self) -> None:
        """Stage search_warm: the student that all trials start from, trained without a teacher."""
        if self.extent.warm_passes:
            self.context.stage("search_warm", self.identity(), self._warm_up)

    def train(self, candidate: Candidate, seed: int, folder: Path, watcher: Watcher | None = None) -> Trainable:
        """Train one candidate; `watcher` is told its AP after each pass, instead of people."""
        methods = methods_of(candidate)
        teacher: AnyTeacher = self._teacher if seed == self.context.bound.recipe.seed else self._teacher.teacher
        plan = self._plan(self.extent.passes, self.extent.lr_factor)
        plan = replace(plan, seed=seed, distillers=methods, watcher=watcher)
        if self.extent.warm_passes:
            plan = replace(plan, student=self.student, initialised=True, inherited={})
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        fit(plan, {MAIN: teacher} if methods else {}, folder, "trial" if methods else "trial without a teacher")
        return self._opened(folder / plan.weights_name)

    def lay_out(self) -> None:
        """Write what trials read, which several that begin at once could not write beside one another."""
        train_view.write(self.data, self.context.path / _VIEW)

    @cached_property
    def _teacher(self) -> CachedTeacher:
        """Of all trials; trainings with other seeds, of noise and finals, see other images."""
        pair = self.context.pair
        methods = methods_of({next(iter(self.space.kinds)): {}})
        return CachedTeacher(make_teachers(methods, pair.teachers)[MAIN], needs_of(self.space, pair))

    @cached_property
    def student(self) -> Trainable:
        """The one that trials start from."""
        pair = self.context.pair
        if not self.extent.warm_passes:
            return pair.student
        return self._opened(self.context.path / _WARM / families.family(pair.student.spec.family).student_files[0])

    def breakdown(self, detector: Detector, title: str, *, teacher: bool = False) -> dict[str, Any]:
        """AP and errors by kind on the held-out images."""
        context, side = self.context, self.context.pair.teachers[MAIN]
        split, size = self.data.splits["val"], (self.size_px, self.size_px)
        images = pack.build(split, size, self.data.channels, context.path / "data" / "packs")
        head = side.head if teacher else context.pair.head
        found = detect_in_torch(
            detector, head, pack=images, columns=side.columns if teacher else None,
            settings=context.bound.recipe.validate_, title=title, alone=True,
            device=torch_device(context.bound.recipe.train.get("device")),
        )  # fmt: skip
        summary = summarise(split, found, self.data.class_names, context.bound.recipe.validate_, head)
        return {key: summary[key] for key in ("ap", "ap50", "errors")}

    def _plan(self, passes: int, lr_factor: float = 1.0) -> FitPlan:
        recipe, pair = self.context.bound.recipe, self.context.pair
        train, own = split_arguments(recipe.train)
        lr0 = lr_factor * float(train.get("lr0", engine_defaults()["lr0"]))  # optimizer: auto chooses its own
        warm_up = min(float(train.get("warmup_epochs", 3.0)), _WARM_UP * passes)
        view = train_view.write(self.data, self.context.path / _VIEW)
        return FitPlan(
            student=pair.student,
            initialised=pair.initialised,
            inherited=pair.inherited,
            data_yaml=view,
            train={
                **train,
                "epochs": passes,
                "imgsz": self.size_px,
                "lr0": lr0,
                "warmup_epochs": warm_up,
                "patience": 0,
            },
            own=own.model_copy(update={"loggers": []}),
            head=pair.head,
            seed=recipe.seed,
            threads=recipe.threads,
            compared=True,
        )

    def _warm_up(self) -> list[str]:
        folder, plan = self.context.path / _WARM, self._plan(self.extent.warm_passes)
        resume = Resume(folder / FILE, self.identity(), plan.own.checkpoint_minutes)
        fit(plan, {}, folder, "training the student that trials start from", resume)
        resume.remove()
        return [f"{_WARM}/{plan.weights_name}", f"{_WARM}/epochs.csv"]

    def _opened(self, path: Path) -> Trainable:
        spec = self.context.pair.student.spec
        asked = Asked(spec.name, path, (), self.data.channels, "the trial's student")
        return families.trainable(families.open_detector(spec.family, asked), "the trial's student")
