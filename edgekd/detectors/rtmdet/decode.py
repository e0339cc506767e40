"""From distances at points to boxes. RTMDet's points are the upper left corners of cells."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def grid(sizes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Points (A, 2) in px and strides (A,) of all levels.

    Args:
        sizes: (H, W) per level, finest first.
    """
    points, point_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
        level = torch.stack([x, y], -1).reshape(-1, 2).float() * stride
        points.append(level)
        point_strides.append(torch.full_like(level[:, 0], stride))
    return torch.cat(points), torch.cat(point_strides)


def boxes_px(distances: Tensor, points: Tensor, point_strides: Tensor) -> Tensor:
    """Boxes (B, A, 4), x1 y1 x2 y2 in px.

    Args:
        distances: (B, 4, A), left, top, right, bottom in strides.
        points: (A, 2) in px.
        point_strides: (A,).
    """
    reach = distances.transpose(1, 2) * point_strides[:, None]
    return torch.cat([points - reach[..., :2], points + reach[..., 2:]], -1)
