"""PKD: distillation by Pearson correlation.

PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient, Cao et al., NeurIPS 2022,
arXiv 2207.02039. Code: github.com/open-mmlab/mmrazor.

    f = (F - mean) / (std + 1e-6)   per channel over n, h, w of the batch, std unbiased
    L = sum over levels of 0.5 * mean over n, c, h, w of (f_S - f_T)^2  =  (M - 1) / M * (1 - r),   M = N H W

**Reduction**: mean over all elements, sum over levels. A level lies in 0..2 (0: equal up to scale and shift).

Differs from the official code: sqrt(variance + 1e-12) for std + 1e-6, a relative difference of at most 1e-6 / std, so
that the fused batch normalisation can do the work; a 1x1 adapter (without bias, which the standardisation would
remove) where channel counts differ; all neck levels, which are three in YOLO, instead of the first four of five.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island, standardise
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class PKDConfig(FeatureConfig):
    """Keys of `pkd`."""

    weight: Weight = Field(10.0, description="factor on the sum over levels; 10 one-stage, 6 two-stage students")


@fp32_island
def pkd_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - r, averaged over channels, of two (N, C, H, W) maps; statistics are of this batch."""
    values = student.numel() // student.shape[1]
    distance = F.mse_loss(standardise(student, eps=1e-12), standardise(teacher, eps=1e-12))
    return distance * (0.5 * (values - 1) / values)


@register("pkd")
class PKD(Distiller):
    """Compares patterns and ignores magnitude, so it suits teachers of another family."""

    config_type = PKDConfig
    card = Card(
        about="patterns of feature maps, whatever their scale",
        title="PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient",
        venue="NeurIPS 2022",
        level="neck",
        arxiv="2207.02039",
        code="github.com/open-mmlab/mmrazor",
        gain="RetinaNet X101 to R50 on COCO 37.4 to 40.8 AP; from Mask R-CNN with Swin-S 37.4 to 41.5",
        weight_at="1333x800 px, four levels; a mean, so the value does not depend on the size",
    )
    config: PKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1_norm", only_if_needed=True)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        return {"feature": self.levels.total(pkd_loss, student, knowledge)}
