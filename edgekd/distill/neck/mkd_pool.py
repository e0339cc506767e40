"""MKD's first part: maps compared at several scales.

MKD: Multi-Knowledge Distillation for Real-Time Object Detection on Edge Devices, Xu et al., ACML 2024, eq. 1. No code.

    L = sum over levels of 1 / m * sum over k of mean over n, c, h, w of (pool_k(F_T) - pool_k(phi(F_S)))^2
    phi: 1x1 convolution; both sides standardised per channel (`normalise`)

**Reduction**: mean over all elements of a scale, mean over the m scales, sum over levels. Two unrelated standardised
maps give less than 2 a level, and less the coarser the scales are, since averaging shrinks noise.

The paper leaves open, and this is chosen here (UNVERIFIED): average pooling with windows and steps of 1, 2 and 4 cells;
the squared distance; its mean also over images and channels, where eq. 1 divides by H W alone; the aligner, which is
that of RTMDet's distillation in mmyolo. A window at the border that is not full averages what it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.contract import Distiller, Moment, Pair, Wiring, register
from edgekd.distill.mkd import MKDConfig, aligned_levels, mkd_card

Scales = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1)]


class MKDPoolConfig(MKDConfig):
    """Keys of `mkd_pool`."""

    scales: Scales = Field((1, 2, 4), description="sides of the pooling windows, in cells")


@fp32_island
def mkd_pool_loss(student: Tensor, teacher: Tensor, scales: tuple[int, ...] = (1, 2, 4)) -> Tensor:
    """Mean squared difference of two (N, C, H, W) maps after average pooling, mean over `scales` (cells)."""
    difference = student - teacher  # pooling is linear, so once is enough
    pooled = [difference if scale == 1 else F.avg_pool2d(difference, scale, ceil_mode=True) for scale in scales]
    return torch.stack([each.square().mean() for each in pooled]).mean()


@register("mkd_pool")
class MKDPool(Distiller):
    """Pulls the student's maps to the teacher's at several scales, so that coarse structure counts by itself."""

    config_type = MKDPoolConfig
    card = mkd_card("feature maps at several scales (one part of MKD)")
    config: MKDPoolConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = aligned_levels(pair, self.config, self.name)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        loss = partial(mkd_pool_loss, scales=self.config.scales)
        return {"feature": self.levels.total(loss, student, knowledge)}
