"""The teachers of a recipe: opened, matched with the classes of the data, and as they run while they teach.

`teacher` is the first, whose AP the student is held against. `teachers` names more, and `ema` stands for the student's
own average: a method says by `teacher:` whom it learns from. `ensembles` makes one of several.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap, columns_of
from edgekd.detectors.class_matching import ClassMatch, match_classes
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.ensemble import Ensemble, Member
from edgekd.detectors.spec import Branch
from edgekd.distill.config import MAIN, DistillerConfig
from edgekd.distill.requirements import some
from edgekd.errors import EdgekdError, InputError
from edgekd.progress import say
from edgekd.recipe.detectors import TeacherRecipe
from edgekd.recipe.schema import Recipe
from edgekd.stages.binding import Bound, hash_of_weights
from edgekd.training.teacher import AnyTeacher, EmaTeacher, Teacher
from edgekd.training.teacher_network import RuntimeName
from edgekd.training.teacher_runtime import RUNTIMES

Methods = Sequence[tuple[str, DistillerConfig]]


@dataclass(frozen=True)
class Side:
    """A teacher, opened.

    Attributes:
        recipe: None for the student's own average, and for several as one.
        classes: those of the data, matched with its own; empty without data.
    """

    recipe: TeacherRecipe | None
    detector: Detector
    classes: tuple[ClassMatch, ...] = ()

    @property
    def columns(self) -> np.ndarray[Any, Any] | None:
        """(K,) its class column per class of the data, -1 for one that it does not know; None where all are equal."""
        same = ClassMap.of(self.classes).is_identity(len(self.detector.spec.class_names))
        return None if same else np.array(columns_of(self.classes))

    @property
    def head(self) -> Branch | None:
        """The branch by which its own AP is measured: its first."""
        return next(iter(self.detector.spec.branches), None)

    @property
    def runtime(self) -> RuntimeName:
        """How it runs while it teaches."""
        return self.recipe.runtime if self.recipe else "eager"


def recipes_of(recipe: Recipe) -> dict[str, TeacherRecipe]:
    """Name -> what the recipe says of that teacher, the first one first."""
    return ({MAIN: recipe.teacher} if recipe.teacher else {}) | dict(recipe.teachers)


def place_of(name: str) -> str:
    """Where a teacher stands in the recipe."""
    return name if name == MAIN else f"teachers.{name}"


def open_teacher(
    bound: Bound, name: str, class_names: tuple[str, ...], channels: int, architecture_only: bool
) -> Detector:
    """Build one on the CPU.

    Raises:
        InputError: it has no weights, or a file is missing or foreign.
    """
    recipe, where = recipes_of(bound.recipe)[name], f"{bound.where}: {place_of(name)}"
    path = None if architecture_only and recipe.model else bound.weights_path(recipe)
    if path is None and not architecture_only:
        raise InputError(f"{where}.weights: missing; name a trained file, e.g. best.pt: random weights teach nothing")
    found = families.open_detector(recipe.family, Asked(recipe.model, path, class_names, channels, where))
    if not found.spec.traceable and (recipe.runtime != "eager" or recipe.precision is not None):
        raise InputError(f"{where}: {found.spec.name} runs as its file says; leave runtime and precision out")
    return found


def matched(bound: Bound, name: str, detector: Detector, class_names: tuple[str, ...]) -> Side:
    """A teacher with the classes of the data; without data none are matched.

    Raises:
        InputError: it knows none of them, or the recipe names what there is not.
    """
    recipe = recipes_of(bound.recipe)[name]
    if not class_names:
        return Side(recipe, detector)
    where, own = f"{bound.where}: {place_of(name)}.classes", detector.spec.class_names
    matches = match_classes(own, class_names, recipe.classes, where)
    if all(match.how in ("none", "ambiguous") for match in matches):
        raise InputError(
            f"{where}: teacher {detector.spec.name} knows none of the classes of the data ({some(class_names)}), its "
            f"own are {some(own)}; name its class for each that it knows; to teach by feature maps alone, set each to "
            "null"
        )
    return Side(recipe, detector, matches)


def ensemble(bound: Bound, name: str, sides: Mapping[str, Side], class_names: tuple[str, ...]) -> Side:
    """Several teachers as one, which knows the classes that any of them knows.

    Raises:
        InputError: they do not predict at the same points.
    """
    asked = bound.recipe.ensembles[name]
    names = class_names or sides[asked.of[0]].detector.spec.class_names
    members = [
        Member(side.detector, ClassMap.of(side.classes) if side.classes else ClassMap.by_name(_names(side), names))
        for side in (sides[member] for member in asked.of)
    ]
    made = Ensemble(members, asked.by, names, f"{bound.where}: ensembles.{name}")
    known = [any(bool(member.classes.known[index]) for member in members) for index in range(len(names))]
    matches = match_classes(names, names) if class_names else ()
    return Side(
        None,
        made,
        tuple(
            one if knows else replace(one, column=None, how="none") for one, knows in zip(matches, known, strict=False)
        ),
    )


def _names(side: Side) -> tuple[str, ...]:
    return side.detector.spec.class_names


def make_teachers(methods: Methods, sides: Mapping[str, Side], here: Any = None) -> dict[str, AnyTeacher]:
    """The teachers that methods learn from, frozen, as they run while they teach.

    Args:
        here: a device that may not be the recipe's, for a trial; what cannot run there is left to torch.
    """
    return {name: _make(sides[name], here) for name in dict.fromkeys(config.teacher for _, config in methods)}


def _make(side: Side, here: Any) -> AnyTeacher:
    if isinstance(side.detector, Ensemble):
        return Teacher(side.detector.frozen(), ClassMap.of(side.classes))
    if side.recipe is None:
        return EmaTeacher(side.detector.spec)
    runtime, precision = side.recipe.runtime, side.recipe.precision
    if here is not None:
        try:
            RUNTIMES[runtime].check(precision, here)
        except EdgekdError as error:
            say(f"note: {error}: the trial runs the teacher as it is")
            runtime, precision = "eager", None
    return Teacher(side.detector.frozen(), ClassMap.of(side.classes), runtime, precision)


def teacher_inputs(
    bound: Bound, methods: Methods, sides: Mapping[str, Side], more: Iterable[str] = ()
) -> dict[str, Any]:
    """What decides what teachers say: weights, how they are run, and which of their classes is which.

    Args:
        methods: whose teachers these are.
        more: names of others.
    """
    inputs: dict[str, Any] = {}
    for name in dict.fromkeys((*(config.teacher for _, config in methods), *more)):
        side = sides[name]
        if name in bound.recipe.ensembles:
            asked = bound.recipe.ensembles[name]
            inputs[name] = [asked.model_dump(mode="json"), _inputs_of(bound, asked.of, sides)]
            continue
        if side.recipe is None:
            continue  # the average is the training's own
        weights = hash_of_weights(bound.weights_path(side.recipe))
        own = {"teacher": [side.recipe.computing, weights], "columns": columns_of(side.classes)}
        inputs |= own if name == MAIN else {f"{name} {key}": value for key, value in own.items()}
    return inputs


def _inputs_of(bound: Bound, names: Iterable[str], sides: Mapping[str, Side]) -> dict[str, Any]:
    found = {}
    for name in names:
        recipe = sides[name].recipe
        assert recipe is not None
        found[name] = [hash_of_weights(bound.weights_path(recipe)), columns_of(sides[name].classes)]
    return found


def learns_from(methods: Methods, name: str) -> Methods:
    """The methods whose teacher is `name`."""
    return [(method, config) for method, config in methods if config.teacher == name]


def average_of(student: Detector, class_names: tuple[str, ...]) -> Side:
    """The student's own average, which knows the classes of the data."""
    return Side(None, student, match_classes(class_names, class_names))
