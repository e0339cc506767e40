"""What a distillation method is. One file per method registers a `Distiller`; the framework does everything else.

Level matching, resizing, adapters, weights, schedules, class mapping, AMP islands, logging and checkpoints are written
once (here, in `adapters.py` and in `edgekd.training`), so a method is its equation and little more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from torch import Tensor, nn

from edgekd import plugins
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance
from edgekd.detectors.spec import NOTHING, Branch, Needs, Part, Spec
from edgekd.distill.frozen import Frozen, no_parts
from edgekd.errors import unknown

Taps: TypeAlias = str | tuple[str, ...]


def _weight(given: object) -> object:
    """One message where a union of types would give two."""
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if given != "auto" and not (is_number and 0 <= given < math.inf):  # type: ignore[operator]
        raise ValueError("must be a number from 0 on, or auto")
    return given


Weight: TypeAlias = Annotated[float | Literal["auto"], BeforeValidator(_weight)]


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


DEFAULT_SHARE = 0.2
MAIN, EMA = "teacher", "ema"  # names of the recipe's first teacher, and of the student's own average as one


class DistillerConfig(BaseModel):
    """Keys that every method has. Subclasses add the paper's parameters with its defaults and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    teacher: str = Field(
        MAIN, description="whom it learns from: teacher, a name under teachers, or ema, the student's own average"
    )
    weight: Weight = Field(1.0, description="factor on all terms of this method")
    share: float | None = Field(
        None, gt=0, le=1, description="with 'weight: auto': the method's part, relative to the detection loss"
    )
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _share_of_auto(self) -> DistillerConfig:
        if self.share is not None and self.weight != "auto":
            raise ValueError("share: only with 'weight: auto'; set it, or leave share out")
        return self

    @property
    def wanted_share(self) -> float:
        """Of a method whose weight is automatic."""
        return self.share if self.share is not None else DEFAULT_SHARE


class FeatureConfig(DistillerConfig):
    """Keys of methods that compare feature maps.

    `taps` names a role (`neck`, `backbone`, ...) or lists roles and module paths; levels are matched by stride.
    """

    taps: Taps = "neck"
    teacher_taps: Taps | None = Field(default=None, description="where they differ from the student's")


Level = Literal["backbone", "neck", "head", "region", "query", "feature", "logit"]


@dataclass(frozen=True)
class Card:
    """Where a method comes from, for `edgekd methods` and for whoever has to choose.

    Attributes:
        about: what the student learns, in a few words.
        title, venue, arxiv, code: of the source; None where there is none.
        level: of the survey's taxonomy (Distilling Object Detectors, table V): the part of the detector it acts on.
        gain: what was published, with its setting.
    """

    about: str
    title: str
    venue: str
    level: Level
    arxiv: str | None = None
    code: str | None = None
    gain: str = "none published for this form"


@dataclass(frozen=True)
class Pair:
    """A student and the teacher that it learns from, as a method sees them before training.

    Attributes:
        student, teacher: what they are.
        class_names: classes of the data set; empty where the data was not opened.
        known: per class of the data set, whether the teacher knows it.
        head_tail: (part, level, cut, branch) -> the last layers of the teacher's tower, frozen; see
            `Detector.head_tail`. Gradients pass through it, and nothing ever changes it.
    """

    student: Spec
    teacher: Spec
    class_names: tuple[str, ...] = ()
    known: tuple[bool, ...] = ()
    head_tail: Callable[[Part, int, int, Branch], Frozen] = no_parts

    @classmethod
    def of(cls, student: Spec, teacher: Detector, known: Sequence[bool], class_names: tuple[str, ...] = ()) -> Pair:
        """A student's spec and a teacher that parts can be taken of."""

        def head_tail(part: Part, level: int, cut: int, branch: Branch) -> Frozen:
            return Frozen(teacher.head_tail(part, level, cut, branch))

        return cls(student, teacher.spec, class_names, tuple(known), head_tail)


@dataclass(frozen=True)
class Wiring:
    """What a method reads of either side in every step."""

    student: Needs = NOTHING
    teacher: Needs = NOTHING


@dataclass(frozen=True)
class Moment:
    """When a step is, and the random numbers of it.

    Attributes:
        step: from 0.
        epoch: fractional, of `epochs`.
        generator: the method's own, on the device of the batch; seeded by run, method, step and rank, so that a resumed
            training draws the same. Drawing from anything else would change the student's own augmentation.
    """

    step: int
    epoch: float
    epochs: int
    generator: torch.Generator


Requirement: TypeAlias = Callable[[Pair], str | None]


class Distiller(nn.Module):
    """A distillation method. Subclasses set the class variables and implement `build`, `knowledge` and `terms`.

    Trainable parts (adapters) are submodules made in `build`; they are optimised with the student and never exported.

    Attributes:
        name: how recipes call it; set by `register`.
        config_type: its keys.
        card: where it comes from.
        requires: what a pair must have; each says why not, naming both sides, or None.
        auxiliary: names of terms that train the method's own modules alone (a discriminator's). They must not reach the
            student; neither weight nor schedule applies to them.
        guides: whether `guidance` steers the student's own loss; one method of a recipe may.
        wiring: what `build` returned.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[DistillerConfig]]
    card: ClassVar[Card]
    requires: ClassVar[tuple[Requirement, ...]] = ()
    auxiliary: ClassVar[frozenset[str]] = frozenset()
    guides: ClassVar[bool] = False

    def __init__(self, config: DistillerConfig, pair: Pair) -> None:
        """Build the method for a pair.

        Raises:
            InputError: no levels of equal stride, an unknown tap.
        """
        super().__init__()
        self.config = config
        self.wiring = self.build(pair)

    def build(self, pair: Pair) -> Wiring:
        """Make adapters, and say what is read of either side.

        Raises:
            InputError: see `__init__`.
        """
        raise NotImplementedError

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """What is taken from the teacher; all that `terms` sees of it. Runs without gradients.

        Every tensor has the batch as first dimension, so that it can be stored per image and read back. Default: the
        teacher's maps by key of the tap.
        """
        return {tap.key: teacher.taps[tap.key] for tap in self.wiring.teacher.taps}

    def guidance(self, knowledge: Mapping[str, Tensor], batch: Batch) -> Guidance:
        """How the teacher steers the student's own loss, of a method that `guides`."""
        raise NotImplementedError

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
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
    _load()
    if name not in _REGISTRY:
        raise KeyError(unknown("method", name, _REGISTRY))
    return _REGISTRY[name]


def distiller_names() -> list[str]:
    """Names of all methods."""
    _load()
    return sorted(_REGISTRY)


def _load() -> None:
    """Register every method: our own first, so that none of another package takes a name of theirs."""
    import edgekd.distill.methods  # noqa: F401

    plugins.load("edgekd.methods")
