"""ReviewKD: each level of the student, joined with its deeper ones, learns from the teacher's.

Distilling Knowledge via Knowledge Review, Chen et al., CVPR 2021, arXiv 2104.09044. Code:
github.com/dvlab-research/ReviewKD, folder Detection.

    x_l = BN(conv1x1(F_S of level l));  below the deepest level:
        (a, b) = sigmoid(conv1x1([x_l; up(x_(l+1))])),  x_l <- a x_l + b up(x_(l+1))        ABF, deep to shallow
    o_l = BN(conv3x3(x_l))
    HCL(o, F) = [MSE(o, F) + sum over k = 1..3 of 2^-k MSE(pool(o, s_k), pool(F, s_k))] / (1 + sum of the 2^-k)
        pool to s = 4, 2, 1 cells a side, those not below H are left out (2^-k then belongs to the next)
    L = sum over levels of HCL(o_l, F_T of level l)

**Reduction**: mean over all elements of a scale, weighted mean over scales, sum over levels.

Published on the maps that feed the head (P2 to P6), hence the default taps; the survey of architectures files it under
the backbone, whose stages it takes as well (`taps: backbone`).

Differs from the official code: maps must have equal strides, nothing but the deeper level is resized.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.blocks import BatchNorm
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register

SIDES = (4, 2, 1)  # of the pooled maps, in cells


class ReviewKDConfig(FeatureConfig):
    """Keys of `reviewkd`."""

    weight: Weight = Field(1.0, description="factor on the sum over levels; 1.2 and 2 for narrower students")
    width: int = Field(256, ge=1, description="channels of the joined maps")


@fp32_island
def hcl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Hierarchical context loss of two (N, C, H, W) maps: squared differences at full size and pooled."""
    total, factor, mass = F.mse_loss(student, teacher), 1.0, 1.0
    for side in SIDES:
        if side >= student.shape[2]:
            continue
        factor /= 2
        mass += factor
        total = total + factor * F.mse_loss(F.adaptive_avg_pool2d(student, side), F.adaptive_avg_pool2d(teacher, side))
    return total / mass


class Fusion(nn.Module):
    """Attention-based fusion (ABF) of one level with the joined map of the next deeper one."""

    def __init__(self, ours: int, width: int, theirs: int, deepest: bool) -> None:
        """Channels of the student's map, of joined maps and of the teacher's map."""
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(ours, width, 1, bias=False), BatchNorm(width))
        self.attention = None if deepest else nn.Conv2d(2 * width, 2, 1)
        self.out = nn.Sequential(nn.Conv2d(width, theirs, 3, padding=1, bias=False), BatchNorm(theirs))
        for weight in (self.reduce[0].weight, self.out[0].weight):
            assert isinstance(weight, Tensor)
            nn.init.kaiming_uniform_(weight, a=1)

    def forward(self, feature: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """(N, ours, H, W) and (N, width, h, w) to what is compared (N, theirs, H, W) and the joined map."""
        joined: Tensor = self.reduce(feature)
        if self.attention is not None and deeper is not None:
            above = F.interpolate(deeper, joined.shape[-2:], mode="nearest")
            own, other = self.attention(torch.cat([joined, above], 1)).sigmoid().chunk(2, 1)
            joined = own * joined + other * above
        return self.out(joined), joined


@register("reviewkd")
class ReviewKD(Distiller):
    """Lets each level of the student look at its deeper ones before it is compared with the teacher's."""

    config_type = ReviewKDConfig
    card = Card(
        about="maps joined from deep to shallow, compared at several scales",
        title="Distilling Knowledge via Knowledge Review",
        venue="CVPR 2021",
        level="backbone",
        arxiv="2104.09044",
        code="github.com/dvlab-research/ReviewKD",
        gain="Faster R-CNN R101 to R50 on COCO 37.9 to 40.4 AP",
        weight_at="1333x800 px, five levels of 256 channels; a mean, so the value does not depend on the size",
    )
    config: ReviewKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "own", resize=False)
        widths = [(level.student.channels, level.teacher.channels) for level in self.levels.pairs]
        self.fusions = nn.ModuleList(
            Fusion(ours, self.config.width, theirs, deepest=level == len(widths) - 1)
            for level, (ours, theirs) in enumerate(widths)
        )
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        losses, deeper = [], None
        levels = list(zip(self.fusions, self.levels.maps(student, knowledge), strict=True))
        for fusion, (ours, theirs) in reversed(levels):
            compared, deeper = fusion(ours, deeper)
            losses.append(hcl_loss(compared, theirs))
        return {"feature": torch.stack(losses).sum()}
