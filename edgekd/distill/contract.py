"""What a distillation method is. One file per method registers a `Distiller`; the framework does everything else.

Level matching, resizing, adapters, weights, schedules, class mapping, AMP islands, logging and checkpoints are written
once (here, in `adapters.py` and in `edgekd.training`), so a method is its equation and little more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, TypeAlias, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from edgekd import plugins
from edgekd.detectors.contract import Detector
from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance
from edgekd.detectors.spec import NOTHING, Branch, Needs, Part, Spec
from edgekd.distill.config import DistillerConfig
from edgekd.distill.frozen import Frozen, no_parts
from edgekd.distill.packing import Points
from edgekd.distill.preparation import Module, Preparation, Prepared
from edgekd.errors import unknown

Level = Literal["backbone", "neck", "head", "region", "query", "feature", "logit"]


@dataclass(frozen=True)
class Card:
    """Where a method comes from, for `edgekd methods` and for whoever has to choose.

    Attributes:
        about: what the student learns, in a few words.
        title, venue, arxiv, code: of the source; None where there is none.
        level: of the survey's taxonomy (Distilling Object Detectors, table V): the part of the detector it acts on.
        gain: what was published, with its setting.
        weight_at: input size (and what else counts) at which the default weight was published; None: it is our own.
    """

    about: str
    title: str
    venue: str
    level: Level
    arxiv: str | None = None
    code: str | None = None
    gain: str = "none published for this form"
    weight_at: str | None = None


@dataclass(frozen=True)
class Pair:
    """A student and the teacher that it learns from, as a method sees them before training.

    Attributes:
        student, teacher: what they are.
        class_names: classes of the data set; empty where the data was not opened.
        known: per class of the data set, whether the teacher knows it.
        head_tail: (part, level, cut, branch) -> the last layers of the teacher's tower, frozen; see
            `Detector.head_tail`. Gradients pass through it, and nothing ever changes it.
        columns: per class of the data set, the teacher's own column of logits, -1 where it does not know the class;
            empty: the same order.
        weights: of the method's preparation, where it is done; see `prepared`.
    """

    student: Spec
    teacher: Spec
    class_names: tuple[str, ...] = ()
    known: tuple[bool, ...] = ()
    head_tail: Callable[[Part, int, int, Branch], Frozen] = no_parts
    columns: tuple[int, ...] = ()
    weights: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def prepared(self, module: Module) -> Prepared[Module]:
        """A module of a method that `prepares`, frozen as its preparation left it."""
        return Prepared(module, self.weights)

    @classmethod
    def of(cls, student: Spec, teacher: Detector, columns: Sequence[int], class_names: tuple[str, ...] = ()) -> Pair:
        """A student's spec and a teacher that parts can be taken of."""

        def head_tail(part: Part, level: int, cut: int, branch: Branch) -> Frozen:
            return Frozen(teacher.head_tail(part, level, cut, branch))

        known = tuple(column >= 0 for column in columns)
        return cls(student, teacher.spec, class_names, known, head_tail, tuple(columns))


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


@dataclass(frozen=True)
class Observation:
    """Some train images as both sides see them, before an epoch.

    Attributes:
        student: in eval mode, without gradients; what the method reads of the student, but for its assignment.
        knowledge: of the same images.
        batch: letterboxed as for validation, not augmented; `batch.view.image_ids` are in ascending order.
    """

    student: DetectorOutput
    knowledge: Mapping[str, Tensor]
    batch: Batch


class Survey(Protocol):
    """A look at the whole train split, lent to a method when an epoch begins. It may be gone through again, or in part.

    Each process that trains sees images of its own; what shall be equal on all goes through `gathered`.
    """

    def __len__(self) -> int:
        """Images in the split."""
        ...

    def __iter__(self) -> Iterator[Observation]:
        """Batches of this process's images, computed as they are asked for."""
        ...

    def gathered(self, image_ids: Tensor, values: Tensor) -> Tensor:
        """Rows of all processes, by ascending image: equal everywhere, however many processes there are.

        Args:
            image_ids: (n,) int64, the image that each row is of.
            values: (n, ...), on any device; n may differ from process to process.

        Returns:
            (all rows, ...), on the device of `values`.
        """
        ...


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
        prepares: whether it has a `preparation`.
        decided_by: keys of its config that decide `knowledge`, beside what it reads; None: none of a method that keeps
            maps alone, as is the default, and any key of its own of another. Keys that do not may differ where recipes
            share stored knowledge.
        switches: keys that are factors, of which only whether they are 0 decides it: a part that is left out keeps
            nothing.
        surveys: whether `epoch_began` is called. A pass over all train images, by both sides, is not cheap.
        wiring: what `build` returned.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[DistillerConfig]]
    card: ClassVar[Card]
    requires: ClassVar[tuple[Requirement, ...]] = ()
    auxiliary: ClassVar[frozenset[str]] = frozenset()
    guides: ClassVar[bool] = False
    surveys: ClassVar[bool] = False
    prepares: ClassVar[bool] = False
    decided_by: ClassVar[frozenset[str] | None] = None
    switches: ClassVar[frozenset[str]] = frozenset()

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

    def stored(self, key: str) -> Points | None:
        """At which points a tensor of `knowledge` matters, where knowledge is stored; None: it is kept whole."""
        return None

    def preparation(self) -> Preparation:
        """What is trained before any student, of a method that `prepares`: a module that `Pair.prepared` froze."""
        raise NotImplementedError

    def guidance(self, knowledge: Mapping[str, Tensor], batch: Batch) -> Guidance:
        """How the teacher steers the student's own loss, of a method that `guides`."""
        raise NotImplementedError

    def epoch_began(self, moment: Moment, survey: Survey) -> None:
        """Look at the data before an epoch is trained, of a method that `surveys`.

        What is found is kept in buffers, which are saved with the training state and are those of rank 0 afterwards;
        `build` gives them their size, or a saved state would not fit.
        Called once per epoch, whatever interrupts it; without gradients, with the student in eval mode. Neither its
        batch norms nor any random state notices. `moment.generator` is the same on all ranks.
        """
        raise NotImplementedError

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """Scalar loss terms by name, unweighted and not multiplied by the batch size."""
        raise NotImplementedError


_REGISTRY: dict[str, type[Distiller]] = {}
Method = TypeVar("Method", bound=Distiller)


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Class decorator that makes a method known to recipes.

    One that cannot be listed raises, whoever wrote it, and so does a second registration under one name.
    """

    def add(cls: type[Method]) -> type[Method]:
        if name in _REGISTRY:
            raise ValueError(f"distiller '{name}' is registered twice: {_REGISTRY[name]} and {cls}")
        if not isinstance(getattr(cls, "card", None), Card):
            raise TypeError(f"distiller '{name}' has no card; write card = Card(about=..., title=..., ...)")
        if not issubclass(getattr(cls, "config_type", object), DistillerConfig):
            raise TypeError(f"distiller '{name}' has no config_type; name a subclass of DistillerConfig")
        try:
            cls.config_type.model_validate({})
        except ValidationError as error:
            keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors()) or str(error)
            raise TypeError(f"distiller '{name}' has keys without a valid default: {keys}") from error
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
