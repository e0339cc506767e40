"""Which family each detector of a recipe is of, and what the student's family lays under the recipe's `train:`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgekd.detectors import families
from edgekd.errors import InputError
from edgekd.recipe.detectors import PREDICTIONS, DetectorRecipe
from edgekd.recipe.schema import Recipe

One = TypeVar("One", bound=DetectorRecipe)


def weights_path(detector: DetectorRecipe, base: Path) -> Path | None:
    """The weights file, or that of its detections: beside the recipe, else in the current folder."""
    if detector.file is None:
        return None
    beside = base / detector.file
    return beside if beside.exists() else Path(detector.file)


def with_families(recipe: Recipe, base: Path, where: str) -> Recipe:
    """The recipe, which now says what it leaves to be found out: the families of its detectors.

    One that no family accepts stays as it is: whoever opens it tells what there is.

    Args:
        base: folder for relative paths.

    Raises:
        InputError: one line per family that there is not.
    """
    given = {name: getattr(recipe, name, None) for name in ("teacher", "student")}
    named = {f"teachers.{name}": one for name, one in recipe.teachers.items()}
    problems = [
        problem
        for name, one in {**given, **named}.items()
        if one is not None and (problem := _problem(one, f"{where}: {name}.family"))
    ]
    if problems:
        raise InputError(*problems)
    found = {name: _resolved(one, base) for name, one in given.items() if one is not None}
    others = {name: _resolved(one, base) for name, one in recipe.teachers.items()}
    student = found.get("student")
    train = with_defaults(student.family, recipe.train) if student and student.family else recipe.train
    return recipe.model_copy(update={**found, "teachers": others, "train": train})


def with_defaults(family: str, train: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's `train:` above the defaults of its student's family."""
    one = families.family(family)
    whole = {**one.train_defaults, **train}
    return whole if one.style.defaults is None else {**one.style.defaults(whole), **whole}


def _problem(detector: DetectorRecipe, place: str) -> str | None:
    try:
        if detector.family is not None:
            families.family(detector.family)
    except KeyError as error:
        return f"{place}: {error.args[0]}"
    return None


def _resolved(detector: One, base: Path) -> One:
    if detector.family is not None:
        return detector
    if detector.file is not None and detector.file != detector.weights:
        return detector.model_copy(update={"family": PREDICTIONS})
    found = families.meant(detector.model, weights_path(detector, base))
    return detector.model_copy(update={"family": found})
