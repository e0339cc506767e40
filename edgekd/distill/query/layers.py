"""Layers of transformers around deformable attention: a decoder's, an encoder's, and the attention among queries."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.distill.query.deformable import DeformableAttention, Pyramid


class SelfAttention(nn.Module):
    """Multi-head attention among the queries of an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        for layer in (self.inputs, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, queries: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C)."""
        batch, count, width = queries.shape
        parts = self.inputs(queries).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(*parts.unbind(0))
        result: Tensor = self.output(found.transpose(1, 2).reshape(batch, count, width))
        return result


class Layer(nn.Module):
    """Attention among queries, deformable attention to a pyramid, a feed-forward part; a norm behind each.

    In an encoder the queries are the pyramid's own cells.
    """

    def __init__(
        self, width: int, levels: int, *, heads: int, points: int, hidden: int, among_queries: bool = False
    ) -> None:
        """Build it.

        Args:
            hidden: width of the feed-forward part; 0 leaves it out.
            among_queries: with the attention among queries.
        """
        super().__init__()
        self.among = SelfAttention(width, heads) if among_queries else None
        self.among_norm = nn.LayerNorm(width) if among_queries else None
        self.look = DeformableAttention(width, levels, heads, points)
        self.look_norm = nn.LayerNorm(width)
        self.think = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)) if hidden else None
        self.think_norm = nn.LayerNorm(width) if hidden else None

    def forward(self, queries: Tensor, references: Tensor, pyramid: Pyramid, position: Tensor | None = None) -> Tensor:
        """(B, Q, C) of queries (B, Q, C).

        Args:
            references: see `DeformableAttention`.
            position: (B or 1, Q, C), added to what asks; None: nothing.
        """
        if self.among is not None and self.among_norm is not None:
            queries = self.among_norm(queries + self.among(queries))
        asking = queries if position is None else queries + position
        queries = self.look_norm(queries + self.look(asking, references, pyramid))
        if self.think is not None and self.think_norm is not None:
            queries = self.think_norm(queries + self.think(queries))
        return queries


def sine_positions(points: Tensor, width: int, temperature: float = 10000.0) -> Tensor:
    """DETR's encoding of places: (S, width) of points (S, 2), x and y in 0..1; y first, sine and cosine in turn."""
    count = width // 2
    steps = torch.arange(count, device=points.device, dtype=points.dtype)
    periods = temperature ** (2 * (steps // 2) / count)
    angles = points.flip(-1)[..., None] * (2 * torch.pi) / periods  # (S, 2, count)
    waves = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1)
    return waves.flatten(1)
