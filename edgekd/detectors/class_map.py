"""Brings what a teacher says of its classes into the order of the data's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from edgekd.detectors.class_matching import ClassMatch, match_classes
from edgekd.detectors.outputs import DetectorOutput


@dataclass(frozen=True)
class ClassMap:
    """Columns of a teacher's class logits, brought into the order of the data set's classes.

    Attributes:
        index: (K,) int64, the teacher's column per class of the data set; 0 where unknown.
        known: (K,) bool.
    """

    index: Tensor
    known: Tensor

    @classmethod
    def of(cls, matches: Sequence[ClassMatch]) -> ClassMap:
        """From the matches of all classes of the data, in their order."""
        columns = torch.tensor(columns_of(matches), dtype=torch.int64)
        return cls(columns.clamp_min(0), columns >= 0)

    @classmethod
    def by_name(cls, teacher: Sequence[str], data: Sequence[str]) -> ClassMap:
        """By the rules of `match_classes` alone."""
        return cls.of(match_classes(teacher, data))

    @classmethod
    def identity(cls, classes: int) -> ClassMap:
        """Of a teacher that was trained on the data itself."""
        return cls(torch.arange(classes), torch.ones(classes, dtype=torch.bool))

    @property
    def columns(self) -> list[int]:
        """The teacher's column per class of the data, -1 where it does not know the class."""
        columns: list[int] = self.index.masked_fill(~self.known, -1).tolist()
        return columns

    def is_identity(self, teacher_classes: int) -> bool:
        """Whether a teacher of so many classes has those of the data, all of them in their order and no others."""
        same = len(self.index) == teacher_classes and bool(self.known.all())
        return same and bool((self.index == torch.arange(teacher_classes)).all())

    def apply(self, output: DetectorOutput) -> DetectorOutput:
        """A copy of `output` whose class logits stand in the data set's order."""
        dense = {
            branch: replace(one, logits=self._mapped(one.class_logits), known_classes=self._known(one.class_logits))
            for branch, one in output.dense.items()
        }
        queries = output.queries
        if queries is not None:
            queries = queries.with_classes(self.index, self._known(queries.class_logits))
        regions = output.regions
        if regions is not None:
            logits = regions.class_logits
            regions = replace(regions, class_logits=self._mapped(logits), known_classes=self._known(logits))
        return replace(output, dense=dense, queries=queries, regions=regions)

    def _mapped(self, logits: Tensor) -> Tensor:
        return logits.index_select(-1, self.index.to(logits.device))

    def _known(self, logits: Tensor) -> Tensor | None:
        return None if bool(self.known.all()) else self.known.to(logits.device)


def columns_of(matches: Sequence[ClassMatch]) -> list[int]:
    """(K,) the teacher's column per class of the data, -1 where it does not know the class."""
    return [-1 if match.column is None else match.column for match in matches]
