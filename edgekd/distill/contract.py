"""What a distillation method is. One file per method registers a `Distiller`; the framework does everything else.

Level matching, resizing, adapters, weights, schedules, class mapping, AMP islands, logging and checkpoints are written
once (here, in `adapters.py` and in `edgekd.training`), so a method is its equation and little more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from edgekd.detectors.class_matching import ClassMatch
from edgekd.detectors.contract import DetectorOutput, Spec
from edgekd.errors import unknown

Taps: TypeAlias = str | tuple[str, ...]


class Schedule(BaseModel):
    """How a term's weight runs over training: factor 0..1 by step.

    The factor rises linearly from 0 over `warmup_epochs`, is 1, then decays to `final` at the last distilled epoch, and
    is 0 from `until_epoch` on (mosaic-off epochs, say).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    warmup_epochs: float = Field(default=0.0, ge=0)
    decay: Literal["none", "linear", "cosine"] = "none"
    final: float = Field(default=0.1, ge=0, le=1)
    until_epoch: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Schedule:
        if self.until_epoch is not None and self.warmup_epochs >= self.until_epoch:
            raise ValueError(
                f"until_epoch={self.until_epoch:g} ends before warmup_epochs={self.warmup_epochs:g} is over; "
                "choose a later until_epoch"
            )
        return self

    def factor(self, epoch: float, epochs: float) -> float:
        """Weight factor at the fractional epoch `epoch` of a training of `epochs`."""
        end = min(self.until_epoch or epochs, epochs)
        if epoch >= end:
            return 0.0 if self.until_epoch is not None and epoch >= self.until_epoch else self.final_factor
        if epoch < self.warmup_epochs:
            return epoch / self.warmup_epochs
        progress = (epoch - self.warmup_epochs) / max(end - self.warmup_epochs, 1e-9)
        if self.decay == "linear":
            return 1 - (1 - self.final) * progress
        if self.decay == "cosine":
            return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
        return 1.0

    @property
    def final_factor(self) -> float:
        """The factor at the very end of the decay."""
        return 1.0 if self.decay == "none" else self.final


class DistillerConfig(BaseModel):
    """Keys that every method has. Subclasses add the paper's parameters with its defaults and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weight: float = Field(1.0, ge=0, description="factor on all terms of this method")
    schedule: Schedule = Schedule()


class FeatureConfig(DistillerConfig):
    """Keys of methods that compare feature maps.

    `taps` names a role (`neck`, `backbone`, ...) or lists roles and module paths; levels are matched by stride.
    """

    taps: Taps = "neck"
    teacher_taps: Taps | None = Field(default=None, description="where they differ from the student's")


@dataclass(frozen=True)
class Requires:
    """What a method needs of a pair; `edgekd check` refuses impossible pairs with both sides named.

    Attributes:
        same_size: level sizes must be equal, no resizing.
        dense: both heads are dense.
        dense_teacher: the teacher's head is dense, the student's may be any.
        box_distribution: both heads have a box distribution of the same number of bins.
        same_points: both heads predict at the same points.
        shared_classes: at least one class of the data set is known to the teacher.
    """

    same_size: bool = False
    dense: bool = False
    dense_teacher: bool = False
    box_distribution: bool = False
    same_points: bool = False
    shared_classes: bool = False


@dataclass(frozen=True)
class Batch:
    """What a method may know of the batch.

    Attributes:
        images: (B, C, H, W) in 0..1, augmented.
        image_index: (M,) int64, the image of each ground-truth box.
        class_ids: (M,) int64.
        boxes_px: (M, 4), x1 y1 x2 y2 in pixels of `images`.
    """

    images: Tensor
    image_index: Tensor
    class_ids: Tensor
    boxes_px: Tensor

    @property
    def size(self) -> int:
        """B."""
        return int(self.images.shape[0])


class Distiller(nn.Module):
    """A distillation method. Subclasses set the class variables and implement `build`, `knowledge` and `terms`.

    Trainable parts (adapters) are submodules made in `build`; they are optimised with the student and never exported.

    Attributes:
        name: how recipes call it; set by `register`.
        teacher_needs: of {"class_logits", "boxes"}: the teacher's heads that must be run. Read it after `build`, which
            may add to it (taps inside a head).
        student_taps, teacher_taps: module paths whose outputs the method reads; set by `build`.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[DistillerConfig]]
    requires: ClassVar[Requires] = Requires()
    teacher_needs: frozenset[str] = frozenset()

    def __init__(self, config: DistillerConfig) -> None:
        super().__init__()
        self.config = config
        self.student_taps: tuple[str, ...] = ()
        self.teacher_taps: tuple[str, ...] = ()

    def build(self, student: Spec, teacher: Spec) -> None:
        """Make adapters and set `student_taps` and `teacher_taps` (module paths).

        Raises:
            InputError: no levels of equal stride, an unknown tap.
        """

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """What is taken from the teacher; all that `terms` sees of it. Runs without gradients.

        Every tensor is detached and has the batch as first dimension, so that it can be stored per image and read back.
        """
        raise NotImplementedError

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, step: int
    ) -> dict[str, Tensor]:
        """Scalar loss terms by name, unweighted and not multiplied by the batch size."""
        raise NotImplementedError


_REGISTRY: dict[str, type[Distiller]] = {}
Method = TypeVar("Method", bound=Distiller)


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that makes a method known to recipes. A second registration under one name raises."""

    def add(cls: type[Method]) -> type[Method]:
        if name in _REGISTRY:
            raise ValueError(f"distiller '{name}' is registered twice: {_REGISTRY[name]} and {cls}")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return add


def distiller_type(name: str) -> type[Distiller]:
    """The method's class.

    Raises:
        KeyError: with the text for the user; the caller adds where the name stood.
    """
    import edgekd.distill.methods  # noqa: F401  (registers every method)

    if name not in _REGISTRY:
        raise KeyError(unknown("method", name, _REGISTRY))
    return _REGISTRY[name]


def distiller_names() -> list[str]:
    """Names of all methods."""
    import edgekd.distill.methods  # noqa: F401

    return sorted(_REGISTRY)


def unmet(requires: Requires, student: Spec, teacher: Spec, classes: Sequence[ClassMatch]) -> list[str]:
    """Reasons why a method cannot serve a pair, each naming both sides; empty if it can.

    Args:
        classes: the data set's, matched with the teacher's; empty where the data was not opened, which leaves them
            unchecked.
    """

    def sides(show: Callable[[Spec], str]) -> str:
        return f"student {student.name} has {show(student)}, teacher {teacher.name} has {show(teacher)}"

    reasons = []
    needs_dense = requires.dense or requires.box_distribution or requires.same_points
    if needs_dense and {student.head_kind, teacher.head_kind} != {"dense"}:
        reasons.append("needs a dense head on both sides; " + sides(lambda spec: f"a {spec.head_kind} head"))
    elif requires.dense_teacher and teacher.head_kind != "dense":
        reasons.append("needs a dense head on the teacher; " + sides(lambda spec: f"a {spec.head_kind} head"))
    elif requires.box_distribution and (student.reg_max != teacher.reg_max or student.reg_max == 1):
        reasons.append(
            "needs a box distribution of equal bins on both sides; " + sides(lambda spec: f"reg_max={spec.reg_max}")
        )
    elif requires.same_points and _points(student) != _points(teacher):
        reasons.append("needs the same points on both sides; " + sides(_points))
    if requires.shared_classes and classes and all(match.column is None for match in classes):
        reasons.append(
            f"needs a class that the teacher knows; the data has {some([match.name for match in classes])}, "
            f"teacher {teacher.name} knows {some(teacher.class_names)}"
        )
    return reasons


def _points(spec: Spec) -> str:
    strides = ", ".join(str(tap.stride) for tap in spec.taps_of("neck"))
    return f"strides {strides} at offset {spec.point_offset:g}"


def some(names: Sequence[str], at_most: int = 5) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:at_most]) + (" ..." if len(names) > at_most else "")
