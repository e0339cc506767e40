"""Whether what a recipe's methods take of their teachers can be stored, and why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from edgekd import ranks
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.spec import Spec
from edgekd.distill.config import EMA, DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.distill.frozen import Frozen
from edgekd.errors import InputError
from edgekd.recipe.detectors import TeacherRecipe
from edgekd.recipe.schema import Recipe
from edgekd.stages.binding import Bound
from edgekd.stages.context import Context
from edgekd.stages.models import RunDetectors
from edgekd.training.engines.replay import refused
from edgekd.training.knowledge import Online
from edgekd.training.store.fill import blocks_of
from edgekd.training.teacher import Teacher


def asked(recipe: Recipe) -> TeacherRecipe | None:
    """The section that asks for knowledge on a disk."""
    teacher = recipe.teacher
    return teacher if teacher is not None and teacher.knowledge == "disk" else None


def train_size_px(recipe: Recipe, student: Spec) -> int:
    """Side of the images of a training, as the engine rounds it."""
    multiple = max(student.size_multiple, 32)
    return -(-recipe.imgsz_px // multiple) * multiple


def problems(bound: Bound, pair: RunDetectors) -> list[str]:
    """Why the knowledge of this recipe's teachers cannot be stored, a line each; empty if it can."""
    if asked(bound.recipe) is None:
        return []
    found = [f"{bound.where}: {reason}" for reason in refused(bound.recipe.train)]
    for index, (name, config) in enumerate(bound.distillers):
        found += [
            f"{bound.where}: distill[{index}]: {name} {reason}, so its knowledge cannot be stored; use another method, "
            "or teacher.knowledge: online"
            for reason in reasons(pair, name, config)
        ]
    return found


def check_storable(bound: Bound, pair: RunDetectors) -> None:
    """Refuse to store knowledge of methods that take more than that of their teachers, or of images drawn otherwise.

    Raises:
        InputError: one line per method or key of `train`.
    """
    if found := problems(bound, pair):
        raise InputError(*found)


def check_sizes(context: Context) -> None:
    """Ask the teachers about blank images, on the CPU and as they are, and refuse methods without anything to store.

    Raises:
        InputError: one line per method whose knowledge has no fixed size, or one if none keeps anything.
    """
    ranks.on_main(lambda: _check_sizes(context))


def _check_sizes(context: Context) -> None:
    bound, pair, teacher = context.bound, context.pair, asked(context.bound.recipe)
    assert teacher is not None
    spec = pair.student.spec
    sides = {config.teacher: pair.teachers[config.teacher] for _, config in bound.distillers}
    teachers = {name: Teacher(side.detector.frozen(), ClassMap.of(side.classes)) for name, side in sides.items()}
    with torch.random.fork_rng(devices=[]):
        methods = [distiller_type(name)(config, pair.of_methods(config.teacher)) for name, config in bound.distillers]
    source = Online(methods, [teachers[config.teacher] for _, config in bound.distillers])
    side_px = train_size_px(bound.recipe, spec)
    images, classes = torch.full((2, context.data.channels, side_px, side_px), 0.5), len(context.data.class_names)
    try:
        blocks = blocks_of(methods, source, images, classes, teacher.storage, teacher.points)
    except InputError as error:
        raise InputError(*(f"{bound.where}: distill: {problem}" for problem in error.problems)) from None
    if blocks and not any(block.fields for block in blocks):
        names = " and ".join(name for name, _ in bound.distillers)
        raise InputError(
            f"{bound.where}: teacher.knowledge: there is nothing to store, for {names} learns from labels alone; use "
            "teacher.knowledge: online"
        )


def reasons(pair: RunDetectors, name: str, config: DistillerConfig) -> list[str]:
    """Why a method takes more of its teacher than tensors of the images that are trained on."""
    kind = distiller_type(name)
    if config.teacher == EMA:
        return ["learns from the student's own average, which every step changes"]
    found = ["looks at all train images before each epoch, with the teacher"] if kind.surveys else []
    taken: list[str] = []
    sides = pair.of_methods(config.teacher)

    def noted(*given: Any) -> Frozen:
        taken.append("part")
        return sides.head_tail(*given)

    kind(config, replace(sides, head_tail=noted))
    return [*found, "sends the student's features through layers of the teacher"] if taken else found
