"""UniKD's adaptive knowledge extractors: queries of the teacher's pyramid, and what they find in either side's.

    q = f(E, F^T),  z = f_e(q, F)     content: E learned;  positional: E = FC(boxes)

A query has a place, too: the box around which it samples. It is learned for content queries and given for positional
ones, and what the generator has seen moves it. With query and place, `f_e` needs nothing else of the teacher.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgekd.distill.query.deformable import Pyramid
from edgekd.distill.query.layers import Layer

_PRIOR = 0.01  # probability of every class at the start


@dataclass(frozen=True)
class Shape:
    """Sizes of extractors; see the keys of `unikd`."""

    queries: int = 200
    width: int = 256
    layers: int = 1
    heads: int = 8
    points: int = 4
    hidden: int = 64

    def layer(self, levels: int, *, among_queries: bool = False) -> Layer:
        """One layer on a pyramid of so many levels."""
        return Layer(
            self.width, levels, heads=self.heads, points=self.points, hidden=self.hidden, among_queries=among_queries
        )


@dataclass(frozen=True)
class Queries:
    """Probes of a pyramid.

    Attributes:
        values: (B, N, C).
        places: (B, N, 4), centre and size of boxes in 0..1, around which they sample.
    """

    values: Tensor
    places: Tensor


class Extractor(nn.Module):
    """One AKE: query generator, extractor, and heads that say what was extracted.

    Queries attend to each other in the generator alone: `f_e` looks at the pyramid, and nothing else moves them there.
    """

    def __init__(self, shape: Shape, levels: int, classes: int, *, positional: bool) -> None:
        super().__init__()
        width = shape.width
        self.entry = nn.Linear(4, width) if positional else nn.Embedding(shape.queries, width)
        self.place = None if positional else nn.Linear(width, 4)
        self.generator = nn.ModuleList(shape.layer(levels, among_queries=True) for _ in range(shape.layers))
        self.move = nn.Linear(width, 4)
        self.extractor = nn.ModuleList(shape.layer(levels) for _ in range(shape.layers))
        self.classify = nn.Linear(width, classes)
        self.regress = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4)
        )
        nn.init.constant_(self.classify.bias, -math.log((1 - _PRIOR) / _PRIOR))
        for parameter in (*self.move.parameters(), *self.regress[-1].parameters()):
            nn.init.zeros_(parameter)
        if self.place is not None:
            nn.init.xavier_uniform_(self.place.weight)
            with torch.no_grad():
                self.place.bias.copy_(torch.tensor([0.0, 0, -1.5, -1.5]))  # 0.18 of the image

    def queries(self, pyramid: Pyramid, boxes: Tensor | None = None) -> Queries:
        """`f`, of the teacher's pyramid.

        Args:
            boxes: (B, N, 4), centre and size in 0..1, of positional queries.
        """
        if boxes is None:
            assert isinstance(self.entry, nn.Embedding)
            assert self.place is not None
            learned = self.entry.weight.expand(len(pyramid.cells), -1, -1)
            values, places = learned, self.place(learned).sigmoid()
        else:
            values, places = self.entry(boxes), boxes
        for layer in self.generator:
            values = layer(values, places, pyramid)
        return Queries(values, _moved(places, self.move(values)))

    def forward(self, queries: Queries, pyramid: Pyramid) -> Tensor:
        """`f_e`: embeddings (B, N, C) of any pyramid of this width and number of levels."""
        found = queries.values
        for layer in self.extractor:
            found = layer(found, queries.places, pyramid)
        return found

    def predictions(self, embeddings: Tensor, queries: Queries) -> tuple[Tensor, Tensor]:
        """Class logits (B, N, K) and boxes (B, N, 4), centre and size in 0..1."""
        return self.classify(embeddings), _moved(queries.places, self.regress(embeddings))


class Extractors(nn.Module):
    """The pair, behind one projection of the teacher's levels to their width, as Deformable DETR has it."""

    def __init__(self, shape: Shape, channels: Sequence[int], classes: int) -> None:
        """`channels`: of the teacher's levels, finest first."""
        super().__init__()
        groups = shape.width // 8  # 32 of 256, as Deformable DETR
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, shape.width, 1), nn.GroupNorm(groups, shape.width)) for count in channels
        )
        for level in self.levels:
            nn.init.xavier_uniform_(level[0].weight)  # type: ignore[index]
            nn.init.zeros_(level[0].bias)  # type: ignore[index]
        self.content = Extractor(shape, len(channels), classes, positional=False)
        self.positional = Extractor(shape, len(channels), classes, positional=True)

    def pyramid(self, maps: Sequence[Tensor]) -> Pyramid:
        """Of the teacher's maps (B, C, H, W)."""
        return Pyramid.of([level(found) for level, found in zip(self.levels, maps, strict=True)])


def _moved(boxes: Tensor, shift: Tensor) -> Tensor:
    return (torch.logit(boxes, eps=1e-5) + shift).sigmoid()
