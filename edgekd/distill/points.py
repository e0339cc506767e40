"""Points that two dense heads have in common: those of levels with equal strides, offsets and anchors per cell.

Equal counts prove nothing (RTMDet's points lie at the corner of a cell, YOLO's in its centre), and two heads may share
some levels only (P3 to P7 beside P3 to P5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.detectors.outputs import DensePredictions
from edgekd.detectors.spec import DenseHead
from edgekd.distill.contract import Pair


@dataclass(frozen=True)
class SharedPoints:
    """Which levels of either head are compared, pairwise.

    Attributes:
        student_levels, teacher_levels: indices of levels, finest first.
    """

    student_levels: tuple[int, ...]
    teacher_levels: tuple[int, ...]

    @classmethod
    def of(cls, student: DenseHead, teacher: DenseHead) -> SharedPoints:
        """Of two heads; without any level where their points lie elsewhere in the cells."""
        if (student.point_offset, student.anchors_per_cell) != (teacher.point_offset, teacher.anchors_per_cell):
            return cls((), ())
        both = [stride for stride in student.strides if stride in teacher.strides]
        return cls(
            tuple(student.strides.index(stride) for stride in both),
            tuple(teacher.strides.index(stride) for stride in both),
        )

    @classmethod
    def of_pair(cls, pair: Pair) -> SharedPoints:
        """Of a pair with two dense heads."""
        assert isinstance(pair.student.head, DenseHead)
        assert isinstance(pair.teacher.head, DenseHead)
        return cls.of(pair.student.head, pair.teacher.head)

    def of_student(self, values: Tensor, predictions: DensePredictions, dim: int = 1) -> Tensor:
        """The shared points of a student's (B, A, ...), or of another tensor whose dimension `dim` is A."""
        return _of_levels(values, predictions, self.student_levels, dim)

    def of_teacher(self, values: Tensor, predictions: DensePredictions, dim: int = 1) -> Tensor:
        """The shared points of a teacher's (B, A, ...), in the order of `of_student`."""
        return _of_levels(values, predictions, self.teacher_levels, dim)

    def sizes_of_student(self, predictions: DensePredictions) -> list[int]:
        """How many of the shared points each level has; they add up to what `of_student` gives."""
        cells = [height * width for height, width in predictions.level_sizes]
        anchors = len(predictions.points_px) // sum(cells)
        return [cells[level] * anchors for level in self.student_levels]


def _of_levels(values: Tensor, predictions: DensePredictions, levels: tuple[int, ...], dim: int) -> Tensor:
    cells = [height * width for height, width in predictions.level_sizes]
    if levels == tuple(range(len(cells))):
        return values
    anchors = values.shape[dim] // sum(cells)
    parts = torch.split(values, [count * anchors for count in cells], dim)
    return torch.cat([parts[level] for level in levels], dim)
