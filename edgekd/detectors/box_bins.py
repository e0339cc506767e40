"""Where the bins of a query's box distribution lie in the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

OUTWARDS = (-1.0, -1.0, 1.0, 1.0)  # the sign of a step away from the box, of left, top, right, bottom


@dataclass(frozen=True)
class BoxBins:
    """Each bin moves an edge of the box with which the refinement began, by a share of that box's side.

    Attributes:
        origins_px: (..., 4), x1 y1 x2 y2, without gradients.
        shifts: (bins,), ascending: how far outwards, in widths of the box for left and right, in heights for top and
            bottom.
    """

    origins_px: Tensor
    shifts: Tensor

    def outwards_px(self) -> Tensor:
        """(..., 4, bins): x or y of the edge by each bin, times -1 for left and top, so that it ascends everywhere.

        The mean under a distribution, times the same sign, is the edge of the predicted box.
        """
        origins = self.origins_px.float()
        sides = (origins[..., 2:] - origins[..., :2]).repeat_interleave(2, -1)[..., [0, 2, 1, 3]]
        return (origins * origins.new_tensor(OUTWARDS))[..., None] + sides[..., None] * self.shifts.float()


def edges_of(outwards: Tensor) -> Tensor:
    """Boxes x1 y1 x2 y2 (..., 4) of such coordinates (..., 4)."""
    return outwards * torch.tensor(OUTWARDS, device=outwards.device)
