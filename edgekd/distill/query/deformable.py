"""Multi-scale deformable attention in plain torch: each query looks at a few points of each level.

Deformable DETR: Deformable Transformers for End-to-End Object Detection, Zhu et al., ICLR 2021, arXiv 2010.04159.

    out = W_o sum over heads m, levels l, points k of A_mlk  (W_v F_l)(p + dp_mlk),   A: softmax over l and k

`dp` and `A` are linear in the query. Bilinear sampling, zeros outside; no images are padded to one size here, so there
are no masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Pyramid:
    """Levels of one width, one cell after the other.

    Attributes:
        cells: (B, S, C), finest level first, row after row.
        sizes: (H, W) of the levels.
    """

    cells: Tensor
    sizes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, maps: Sequence[Tensor]) -> Pyramid:
        """Of (B, C, H, W) per level."""
        cells = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        return cls(cells, tuple((level.shape[2], level.shape[3]) for level in maps))

    def centres(self) -> Tensor:
        """(S, 2), x and y of the cells, in 0..1 of the image."""
        rows = []
        for height, width in self.sizes:
            y, x = (
                (torch.arange(count, device=self.cells.device, dtype=self.cells.dtype) + 0.5) / count
                for count in (height, width)
            )
            rows.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).reshape(-1, 2))
        return torch.cat(rows)


def sample(pyramid: Pyramid, heads: int, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted samples of a pyramid whose channels are split among heads.

    Args:
        pyramid: values of width C.
        locations: (B, Q, heads, L, P, 2), x and y in 0..1.
        weights: (B, Q, heads, L, P), which sum to 1 over L and P.

    Returns:
        (B, Q, C).
    """
    batch, queries, _, levels, points, _ = locations.shape
    width = pyramid.cells.shape[2]
    # Queries last: sums over points then run along rows of queries, in half the time on a CPU.
    grids = (2 * locations - 1).permute(3, 0, 2, 4, 1, 5).reshape(levels, batch * heads, points, queries, 2)
    shares = weights.permute(3, 0, 2, 4, 1).reshape(levels, batch * heads, 1, points, queries)
    parts = torch.split(pyramid.cells, [height * across for height, across in pyramid.sizes], 1)
    total = pyramid.cells.new_zeros(batch * heads, width // heads, queries)
    for part, (height, across), grid, share in zip(parts, pyramid.sizes, grids, shares, strict=True):
        values = part.transpose(1, 2).reshape(batch * heads, width // heads, height, across)
        found = F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        total = total + (found * share).sum(2)
    return total.view(batch, width, queries).transpose(1, 2)


class DeformableAttention(nn.Module):
    """The attention with its four linear layers, initialised as Deformable DETR's.

    At the start each head looks in a direction of its own, its points one after the other outwards, all alike strong.
    """

    def __init__(self, width: int, levels: int, heads: int = 8, points: int = 4) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.values = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        angles = torch.arange(heads) * (2 * math.pi / heads)
        directions = torch.stack([angles.cos(), angles.sin()], -1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, points + 1, dtype=torch.float32)
        grid = (directions[:, None, None, :] * steps[:, None]).expand(heads, levels, points, 2)
        with torch.no_grad():
            self.offsets.bias.copy_(grid.reshape(-1))
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.weights.bias)
        for layer in (self.values, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor, references: Tensor, pyramid: Pyramid) -> Tensor:
        """(B, Q, C) of queries (B, Q, C).

        Args:
            references: (B, Q, 2), x y in 0..1, around which offsets count cells; or (B, Q, 4), centre and size of boxes
                in 0..1, around whose centres they count `points`-th parts of half a side.
        """
        batch, count, _ = queries.shape
        shape = (batch, count, self.heads, self.levels, self.points)
        offsets = self.offsets(queries).view(*shape, 2)
        logits = self.weights(queries).view(batch, count, self.heads, -1).permute(0, 2, 3, 1)
        shares = logits.contiguous().softmax(2).view(batch, *shape[2:], count).permute(0, 4, 1, 2, 3)
        if references.shape[-1] == 2:
            cells = offsets.new_tensor([[width, height] for height, width in pyramid.sizes])
            reach = offsets / cells[:, None]
        else:
            reach = offsets / self.points * references[:, :, None, None, None, 2:] * 0.5
        locations = references[:, :, None, None, None, :2] + reach
        values = Pyramid(self.values(pyramid.cells), pyramid.sizes)
        found: Tensor = self.output(sample(values, self.heads, locations, shares))
        return found
