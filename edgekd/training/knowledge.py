"""Where methods get from what the teachers know: from the teachers themselves, in the same step, or from a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import NOTHING, Needs
from edgekd.distill.contract import Distiller
from edgekd.training.store.store import Reader
from edgekd.training.teacher import AnyTeacher
from edgekd.training.views import Views

Knowledge: TypeAlias = Mapping[str, Tensor]
RECORDS = "edgekd_records"  # key of the engine's batch: (B, bytes) uint8


class KnowledgeSource(Protocol):
    """Gives every method what it takes of its teacher.

    Attributes:
        teachers: of each method, where they run; none where their knowledge is read.
        told: where knowledge comes from, in words.
    """

    teachers: tuple[AnyTeacher, ...]
    told: str

    def of(self, distillers: Sequence[Distiller], batch: Batch, acting: Sequence[bool]) -> list[Knowledge | None]:
        """Knowledge per method; None for one that has ended."""
        ...

    def of_one(self, place: int, part: Distiller, batch: Batch) -> Knowledge:
        """Knowledge of one method, the `place`-th, of other images than those of a step."""
        ...

    def assert_frozen(self) -> None:
        """Rule: nothing of a teacher is trained."""
        ...


class Online:
    """Runs every teacher once a step, for all methods that learn from it. As its teachers, it is not copied with a
    module that refers to it, and never pickled.

    Attributes:
        teachers: of each method; the same object where methods share one.
    """

    told = "computed in every step"

    def __init__(self, distillers: Sequence[Distiller], teachers: Sequence[AnyTeacher]) -> None:
        self.teachers = tuple(teachers)
        self._needs = [
            Needs.merged(
                part.wiring.teacher for part, other in zip(distillers, teachers, strict=True) if other is teacher
            )
            for teacher in teachers
        ]

    @torch.no_grad()
    def of(self, distillers: Sequence[Distiller], batch: Batch, acting: Sequence[bool]) -> list[Knowledge | None]:
        """Knowledge per method; None for one that has ended. A teacher none of whose methods acts is spared.

        What a teacher is asked for stays the same as methods end, so that a compiled one is not compiled again.
        """
        passes: dict[int, DetectorOutput] = {}
        kept: list[Knowledge | None] = []
        for part, teacher, needs, acts in zip(distillers, self.teachers, self._needs, acting, strict=True):
            if not acts:
                kept.append(None)
                continue
            if id(teacher) not in passes:
                asked = needs != NOTHING  # by a method that learns from labels alone
                passes[id(teacher)] = teacher.forward(batch.images, needs) if asked else DetectorOutput({})
            found = part.knowledge(passes[id(teacher)], batch)
            kept.append({key: value.detach() for key, value in found.items()})
        return kept

    @torch.no_grad()
    def of_one(self, place: int, part: Distiller, batch: Batch) -> Knowledge:
        """Knowledge of one method, the `place`-th, apart from any step."""
        return part.knowledge(self.teachers[place].forward(batch.images, self._needs[place]), batch)

    def assert_frozen(self) -> None:
        """Rule: every teacher is in eval mode and has no gradients, whatever the engine did."""
        for teacher in self.teachers:
            teacher.assert_frozen()

    def __deepcopy__(self, memo: dict[int, Any]) -> Online:
        return self

    def __reduce__(self) -> str:
        raise TypeError("the teacher is never pickled")


@dataclass(frozen=True)
class StoredKnowledge:
    """What a training reads instead of running its teachers.

    Attributes:
        reader: hands out records, which the loader's workers put beside the images.
        parts: place in the store of each method, in their order.
    """

    reader: Reader
    parts: tuple[int, ...]
    views: Views

    @property
    def told(self) -> str:
        """For people."""
        views, store = self.views, self.reader.store
        shown = f"{views.count} views (seed {views.seed}), {self.reader.record_bytes:,} bytes an image"
        return f"read from {store.place.name}: {shown}"


class Stored:
    """Takes knowledge from the records that came with the batch."""

    teachers: tuple[AnyTeacher, ...] = ()

    def __init__(self, stored: StoredKnowledge) -> None:
        self.told = stored.told
        self._blocks = stored.reader.blocks(stored.parts)

    @torch.no_grad()
    def of(self, distillers: Sequence[Distiller], batch: Batch, acting: Sequence[bool]) -> list[Knowledge | None]:
        """See `KnowledgeSource`."""
        assert batch.engine is not None
        records: Tensor = batch.engine[RECORDS]
        return [
            block.unpack(records[:, span.start : span.end]) if acts else None
            for (span, block), acts in zip(self._blocks, acting, strict=True)
        ]

    def of_one(self, place: int, part: Distiller, batch: Batch) -> Knowledge:
        """Nothing is stored of images as they are; methods that ask for it are refused before."""
        raise NotImplementedError

    def assert_frozen(self) -> None:
        """There is no teacher."""
