"""What every method on a dense head shares: which branch learns from which, at which points, and of which classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DensePredictions, DetectorOutput
from edgekd.distill.adapters import match_branches
from edgekd.distill.contract import Pair
from edgekd.distill.masks import confidence
from edgekd.distill.packing import Points
from edgekd.distill.points import SharedPoints
from edgekd.distill.positives import Positives

Known = Literal["logits", "confidence", "box_logits", "boxes_px"]


def by_confidence(key: str) -> Points:
    """Where a tensor of `Heads.knowledge` matters to terms that weigh points by the teacher's confidence."""
    return Points(f"confidence:{key.partition(':')[2]}")


class Heads(nn.Module):
    """The branches of two dense heads, paired: what a head method holds instead of having a base class.

    Attributes:
        branches: of the student, each with the teacher's that it learns from.
        points: those that both heads have.
        known: (K,) bool, classes that the teacher knows; None: all.
    """

    known: Tensor | None

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.branches = match_branches(pair.student, pair.teacher)
        self.points = SharedPoints.of_pair(pair)
        known = None if all(pair.known) else torch.tensor(pair.known)
        self.register_buffer("known", known, persistent=False)

    def knowledge(self, teacher: DetectorOutput, *parts: Known) -> dict[str, Tensor]:
        """`<part>:<branch>` per branch that teaches, at the shared points: all (B, A, ...)."""
        kept = {}
        for source in dict.fromkeys(source for _, source in self.branches):
            predictions = teacher.dense[source]
            for part in parts:
                kept[f"{part}:{source}"] = self.points.of_teacher(_read(predictions, part), predictions)
        return kept

    def sides(self, student: DetectorOutput, knowledge: Mapping[str, Tensor]) -> list[Side]:
        """One per branch of the student."""
        return [
            Side(student.dense[branch], self.points, branch, source, knowledge, self.known)
            for branch, source in self.branches
        ]

    def mean(
        self,
        terms: Callable[[Side], Mapping[str, Tensor]],
        student: DetectorOutput,
        knowledge: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Scalar terms of each branch by name, averaged over the student's branches."""
        found = [terms(side) for side in self.sides(student, knowledge)]
        return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}


@dataclass(frozen=True)
class Side:
    """One branch of the student and what is known of the teacher's, at the shared points.

    Attributes:
        predictions: the student's, at all its points.
        branch, source: the student's branch and the teacher's.
        known: (K,) bool, classes that the teacher knows; None: all.
    """

    predictions: DensePredictions
    shared: SharedPoints
    branch: str
    source: str
    knowledge: Mapping[str, Tensor]
    known: Tensor | None = None

    def ours(self, part: Known) -> Tensor:
        """The student's (B, A, ...)."""
        return self.shared.of_student(_read(self.predictions, part), self.predictions)

    def theirs(self, part: str) -> Tensor:
        """The teacher's (B, A, ...)."""
        return self.knowledge[f"{part}:{self.source}"]

    @property
    def points_px(self) -> Tensor:
        """(A, 2)."""
        return self.shared.of_student(self.predictions.points_px, self.predictions, dim=0)

    @property
    def strides(self) -> Tensor:
        """(A,)."""
        return self.shared.of_student(self.predictions.point_strides, self.predictions, dim=0)

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(H, W) of the shared levels."""
        return tuple(self.predictions.level_sizes[level] for level in self.shared.student_levels)

    @property
    def positive_count(self) -> Tensor:
        """How many of the student's points its loss made positive, at least 1: a scalar."""
        return self.predictions.assignment.foreground.sum().clamp_min(1)

    def positives(self, batch: Batch) -> Positives:
        """Shared points that the student's loss made positive, for objects of classes that the teacher knows."""
        assigned = self.predictions.assignment
        foreground, box_index, targets = (
            self.shared.of_student(values, self.predictions)
            for values in (assigned.foreground, assigned.box_index, assigned.class_targets)
        )
        return Positives.of_assignment(foreground, box_index, targets, batch, self.known)


def _read(predictions: DensePredictions, part: Known) -> Tensor:
    if part == "logits":
        return predictions.class_logits
    if part == "confidence":
        return confidence(predictions)
    if part == "boxes_px":
        return predictions.boxes_px
    assert predictions.box_logits is not None, "required: a box distribution"
    return predictions.box_logits
