"""UniKD's adapter: the student's levels as a pyramid that the teacher's extractors can look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekd.detectors.spec import Tap
from edgekd.distill.query.deformable import Pyramid
from edgekd.distill.query.extractor import Shape
from edgekd.distill.query.layers import sine_positions


class StudentPyramid(nn.Module):
    """A linear layer per level of the teacher, on the student's level of the nearest stride; then self-attention.

    Levels keep the student's own sizes: attention knows places relative to the image. Where the student has fewer
    levels, one of its levels serves for several.
    """

    def __init__(self, student: Sequence[Tap], strides: Sequence[int], shape: Shape, layers: int) -> None:
        """Build it.

        Args:
            strides: of the teacher's levels, finest first.
            layers: of deformable self-attention.
        """
        super().__init__()
        self.sources = tuple(
            min(student, key=lambda tap: (_apart(tap.stride, stride), tap.stride)) for stride in strides
        )
        self.linear = nn.ModuleList(nn.Conv2d(tap.channels, shape.width, 1) for tap in self.sources)
        self.attention = nn.ModuleList(shape.layer(len(strides)) for _ in range(layers))
        self.of_level = nn.Parameter(torch.randn(len(strides), shape.width)) if layers else None
        self.width = shape.width

    def forward(self, maps: Sequence[Tensor]) -> Pyramid:
        """Of the maps of `sources`, in their order."""
        pyramid = Pyramid.of([linear(found) for linear, found in zip(self.linear, maps, strict=True)])
        if self.of_level is None:
            return pyramid
        centres = pyramid.centres()
        levels = [
            row.expand(height * width, -1) for row, (height, width) in zip(self.of_level, pyramid.sizes, strict=True)
        ]
        position = sine_positions(centres, self.width) + torch.cat(levels)
        references = centres.expand(len(pyramid.cells), -1, -1)
        cells = pyramid.cells
        for layer in self.attention:
            cells = layer(cells, references, Pyramid(cells, pyramid.sizes), position)
        return Pyramid(cells, pyramid.sizes)


def _apart(stride: int, other: int) -> float:
    return max(stride, other) / min(stride, other)
