"""What is asked of detectors once they are open, before anything is done with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.detectors import families
from edgekd.detectors.contract import Detector, Trainable
from edgekd.errors import InputError
from edgekd.recipe.detectors import DetectorRecipe


def require_trainable(student: Trainable, train: Mapping[str, Any], where: str) -> None:
    """Refuse arguments that the engine cannot train this student with."""
    from edgekd.training.engines.shell import unservable  # imports the engine

    if reasons := unservable(student, train):
        raise InputError(*(f"{where}: {reason}" for reason in reasons))


def require_channels(channels: int, where: str, **detectors: Detector | None) -> None:
    """Refuse weights made for images of another number of channels."""
    problems = [
        f"{where}: {side}: takes {detector.spec.input_channels} input channels, the data has {channels}; "
        f"use weights trained on such data"
        for side, detector in detectors.items()
        if detector is not None and detector.spec.input_channels != channels
    ]
    if problems:
        raise InputError(*problems)


def require_model(where: str, **sides: tuple[DetectorRecipe, Detector]) -> None:
    """Refuse weights of another model than the recipe names beside them."""
    problems = []
    for side, (asked, detector) in sides.items():
        if asked.model is None or asked.weights is None:
            continue
        family = families.family(detector.spec.family)
        differing = family.differing(asked.model, detector, f"{where}: {side}.model")
        if differing:
            problems.append(
                f"{where}: {side}.weights: {asked.weights} holds another model than {side}.model: {asked.model} "
                f"({', '.join(differing)} differ); correct one, or leave {side}.model out"
            )
    if problems:
        raise InputError(*problems)
