"""FitNet: plain hint learning on feature maps.

FitNets: Hints for Thin Deep Nets, Romero et al., ICLR 2015, arXiv 1412.6550. Code: github.com/adri-romsor/FitNets.
Weight and taps as in the detection baseline of HEAD, Wang et al., ECCV 2022, arXiv 2207.05345.

    L = sum over levels of mean over n, c, h, w of (phi(F_S) - F_T)^2,   phi: 1x1 convolution

**Reduction**: mean over all elements of a level, sum over levels.

Differs from the official code: dense maps of a detector instead of one hint layer trained in a stage of its own; maps
of unequal size are resized (the student's to the teacher's). HEAD's baseline also copies the teacher's head; this does
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class FitNetConfig(FeatureConfig):
    """Keys of `fitnet`."""

    weight: Weight = Field(1.0, description="factor on the sum over levels; 1..10 is usual")
    adapter: Literal["conv1x1", "mlp", "none"] = Field("conv1x1", description="'none' needs equal channels")


@fp32_island
def fitnet_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two (N, C, H, W) maps."""
    return F.mse_loss(student, teacher)


@register("fitnet")
class FitNet(Distiller):
    """Pulls each student level to the teacher's; dominated by channels of large magnitude."""

    config_type = FitNetConfig
    card = Card(
        about="feature maps, mean squared difference",
        title="FitNets: Hints for Thin Deep Nets",
        venue="ICLR 2015",
        level="neck",
        arxiv="1412.6550",
        code="github.com/adri-romsor/FitNets",
        gain="Faster R-CNN R101 to R50 on COCO 38.4 to 38.9 AP, RetinaNet 37.4 to 37.4 (as a baseline of later papers)",
        weight_at="1333x800 px; a mean, so the value does not depend on the size",
    )
    config: FitNetConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        return {"feature": self.levels.total(fitnet_loss, student, knowledge)}
