"""The section `search:` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from edgekd.recipe.sections import MOST_ENTRIES, Strict

Edge = Annotated[int, Field(ge=32, le=8192)]


class StudentsRecipe(Strict):
    """The students that `edgekd shortlist` compares on a device. What is left out is chosen there."""

    models: tuple[str, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="names of models, or model YAMLs; default: every scale of every family that can be trained",
    )
    sizes: tuple[Edge, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="of the square input in px; default: train.imgsz, 3/4 and 1/2 of it",
    )
    targets: tuple[str, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="names of export targets; default: the recipe's own, else all that can be made for the device",
    )
    precisions: tuple[Literal["fp32", "fp16", "int8"], ...] = Field(
        default=(), max_length=3, description="of these targets, those of these precisions; default: all"
    )
    protocol: Literal["quick", "full"] = Field(
        default="quick", description="how latency is measured, as profile.protocol"
    )

    @field_validator("models", "sizes", "targets", "precisions")
    @classmethod
    def _entries_differ(cls, entries: tuple[object, ...]) -> tuple[object, ...]:
        twice = [entry for index, entry in enumerate(entries) if entry in entries[:index]]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; leave one out")
        return entries


class SearchRecipe(Strict):
    """What the searches look through; a run does not read it."""

    students: StudentsRecipe = Field(default_factory=StudentsRecipe)
