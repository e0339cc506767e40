"""The section `search:` of a recipe."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from edgekd.plain import value
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


class ProxyRecipe(Strict):
    """What a candidate is judged by: a short training on a part of train, its AP on another part of train."""

    images: int | None = Field(
        default=None, ge=1, description="of train, that are trained on; default: half, at most 5,000"
    )
    held_out: int | None = Field(
        default=None, ge=1, description="of train, that the AP is measured on; default: a quarter, at most 1,000"
    )
    group: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="regular expression on names of images: those in which it finds the same (its first brackets) are "
        "not parted, such as frames of a video; default: each image is for itself",
    )
    steps: int | None = Field(
        default=None, ge=1, description="of each trial, rounded to whole passes over the images; default: 24 passes"
    )
    warm_steps: int | None = Field(
        default=None,
        ge=0,
        description="without a teacher, before all trials; default: 0, trials begin as the recipe's student does",
    )
    lr_factor: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="of train.lr0, which trials begin with; default: 1, with warm_steps 0.2",
    )
    imgsz: int | None = Field(
        default=None, ge=32, le=8192, description="size of the images in px; default: train.imgsz"
    )

    @field_validator("group")
    @classmethod
    def _is_an_expression(cls, group: str | None) -> str | None:
        try:
            re.compile(group or "")
        except re.error as error:
            raise ValueError(
                f"{value(group)} is no regular expression ({error}); write one, such as '^[^_]*'"
            ) from None
        return group


class EvolutionRecipe(Strict):
    """Divide and conquer: the evolution of each kind of knowledge, then of the weights. Defaults are DetKDS'."""

    population: int = Field(default=20, ge=2, le=10_000, description="|P|, candidates that live")
    iterations: int = Field(
        default=20, ge=0, le=100_000, description="T of each kind; two candidates are tried in each"
    )
    weights_iterations: int = Field(default=40, ge=0, le=100_000, description="T of the weights of all kinds together")
    sample: float = Field(
        default=0.9, gt=0, le=1, description="r, share of the population that a parent is chosen from"
    )
    top: int = Field(default=5, ge=1, le=10_000, description="k, the best of these, one of which is the parent")


class SearchRecipe(Strict):
    """What the searches look through; a run does not read it."""

    students: StudentsRecipe = Field(default_factory=StudentsRecipe)
    kinds: tuple[str, ...] = Field(
        default=(), max_length=MOST_ENTRIES, description="of knowledge; default: all that can serve the pair"
    )
    space: dict[str, dict[str, tuple[str | float, ...]]] = Field(
        default_factory=dict, description="choices per kind and key, where not all are wanted"
    )
    strategy: Literal["budgeted", "divide"] = Field(
        default="budgeted",
        description="budgeted: kinds together, bad trials ended early; divide: DetKDS' divide and conquer",
    )
    sampler: Literal["tpe", "evolution", "random"] = Field(
        default="tpe", description="of the budgeted search; evolution is NSGA-II"
    )
    pruner: Literal["halving", "hyperband", "none"] = Field(
        default="halving", description="what ends trials that lag behind"
    )
    order: Literal["errors", "plain"] = Field(
        default="errors", description="which kind comes first: by the student's errors, or as they are listed"
    )
    trials: int = Field(default=60, ge=1, le=1_000_000, description="at most")
    hours: float | None = Field(
        default=None, gt=0, description="after which a call begins no more trials; default: no limit"
    )
    patience: int = Field(
        default=20, ge=1, le=1_000_000, description="trials without a gain above the noise, after which the search ends"
    )
    repeats: int = Field(
        default=5, ge=0, le=100, description="seeds that the noise is measured with; below 2: it is not"
    )
    finalists: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="best candidates that the other seeds of repeats judge at the end; 0: the best score wins",
    )
    most_loss: float = Field(
        default=10.0,
        gt=0,
        description="distillation loss over the student's own, above which a candidate is dropped at once",
    )
    workers: int = Field(
        default=1, ge=1, le=1024, description="trials at once, in processes of this machine, spread over its GPUs"
    )
    ray: str | None = Field(
        default=None,
        pattern=r"^(auto|[^\s/]+:[0-9]{1,5})$",
        description="trials on a Ray cluster: auto, the one that this machine is part of, or host:port of its head",
    )
    proxy: ProxyRecipe = Field(default_factory=ProxyRecipe)
    evolution: EvolutionRecipe = Field(default_factory=EvolutionRecipe)

    @model_validator(mode="after")
    def _parts_fit(self) -> SearchRecipe:
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError("kinds: the same one twice; leave one out")
        if self.ray is not None and self.workers > 1:
            raise ValueError("workers: is for this machine, and ray for a cluster; leave one out")
        return self
