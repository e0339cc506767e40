"""Makes the methods of a recipe for the student that is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekd.detectors.spec import Spec
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Distiller, distiller_type
from edgekd.training.preparation import read
from edgekd.training.teacher import AnyTeacher


def build_distillers(
    methods: Sequence[tuple[str, DistillerConfig]],
    student: Spec,
    teachers: Mapping[str, AnyTeacher],
    prepared: Mapping[str, Path] | None = None,
) -> list[Distiller]:
    """The methods, each wired for the student and its teacher.

    Args:
        prepared: label -> what a method's preparation left.
    """
    parts = []
    for label, (name, config) in zip(labels([name for name, _ in methods]), methods, strict=True):
        file = (prepared or {}).get(label)
        pair = replace(teachers[config.teacher].pair(student), weights=None if file is None else read(file))
        parts.append(distiller_type(name)(config, pair))
    return parts


def labels(names: Sequence[str]) -> list[str]:
    """Method names; a method used twice gets a number."""
    return [
        name if names.count(name) == 1 else f"{name}{names[:index].count(name) + 1}" for index, name in enumerate(names)
    ]
