"""CWD: channel-wise distillation.

Channel-wise Knowledge Distillation for Dense Prediction, Shu et al., ICCV 2021, arXiv 2011.13256.
Code: github.com/irfanICMLL/TorchDistiller, github.com/open-mmlab/mmrazor.

    q = softmax over h, w of F / tau
    L = sum over levels of tau^2 / (N C) * sum over n, c of KL(q_T || q_S)

**Reduction**: sum over positions, mean over n and c, sum over levels. The value does not grow with batch, width or, as
the distributions sum to one, image size.

`normalise: channel` is the variant of RTMDet's distillation (github.com/open-mmlab/mmyolo,
configs/rtmdet/distillation): a 1x1 convolution on the student, then a BatchNorm without parameters on both sides;
published with weight 1 per level. Without it, wide features with tau = 1 give nearly one-hot distributions: raise tau
or normalise.

Differs from the official code: the adapter has no bias, which the softmax over positions cannot see; in small batches
the normalisation is per image, where batch statistics are noise; maps must have equal strides, nothing is resized.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import StandardisedConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class CWDConfig(StandardisedConfig):
    """Keys of `cwd`."""

    weight: Weight = Field(10.0, description="factor on the sum over levels; with 'normalise: channel' 1 is usual")
    tau: float = Field(1.0, gt=0, description="temperature of the softmax over positions")


@fp32_island
def cwd_loss(student: Tensor, teacher: Tensor, tau: float = 1.0) -> Tensor:
    """KL divergence between the channels' distributions over positions; both (N, C, H, W)."""
    channels = student.shape[0] * student.shape[1]
    log_student = F.log_softmax(student.flatten(2) / tau, dim=-1)
    log_teacher = F.log_softmax(teacher.flatten(2) / tau, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="sum", log_target=True) * (tau**2 / channels)


@register("cwd")
class CWD(Distiller):
    """Moves each student channel's mass to where the teacher's channel has it."""

    config_type = CWDConfig
    card = Card(
        about="where each channel has its mass; optionally normalised first",
        title="Channel-wise Knowledge Distillation for Dense Prediction",
        venue="ICCV 2021",
        level="neck",
        arxiv="2011.13256",
        code="github.com/irfanICMLL/TorchDistiller",
        gain="GFL R101 to R50 on COCO 40.2 to 41.9 AP (class head); RetinaNet X101 to R50 37.4 to 40.8",
        weight_at="1333x800 px, five levels of 256 channels; the value does not depend on the size",
    )
    config: CWDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        plain = self.config.normalise == "none"
        self.levels = Levels.of(
            pair, self.config, self.name, "conv1x1_norm", only_if_needed=plain, resize=False, standardised=self.config
        )
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        return {"feature": self.levels.total(partial(cwd_loss, tau=self.config.tau), student, knowledge)}
