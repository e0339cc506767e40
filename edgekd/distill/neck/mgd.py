"""MGD: masked generative distillation.

Masked Generative Distillation, Yang et al., ECCV 2022, arXiv 2205.01529. Code: github.com/yzd-v/MGD,
github.com/open-mmlab/mmrazor.

    m ~ {0, 1}^(N x 1 x H x W), P(m = 0) = ratio
    L = sum over levels of 1 / N * sum over n, c, h, w of (G(m phi(F_S)) - F_T)^2
    phi: 1x1 convolution where widths differ; G: 3x3 convolution, ReLU, 3x3 convolution, one per level

**Reduction**: sum over channels and positions, mean over images, sum over levels. So the value grows with C H W: the
published weight 2e-5 holds at about 1333x800 px and 256 channels; at another size or width use `weight: auto`.

All of the map is supervised, not only what was hidden. The mask is drawn anew in each step and for each level. `mask:
channel` hides whole channels (N x C x 1 x 1) instead, which the paper does for classification.

The generator works at the teacher's width: for a small student that is more work than its own step. `width` narrows it.

Differs from the official code: nothing but where the random numbers come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.blocks import generator
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.masks import random_mask


class MGDConfig(FeatureConfig):
    """Keys of `mgd`."""

    weight: Weight = Field(2e-5, description="factor on the sum over levels; 5e-7 for two-stage students")
    ratio: float = Field(0.65, ge=0, lt=1, description="share of positions that is hidden; 0.45 for two-stage students")
    mask: Literal["spatial", "channel"] = Field("spatial", description="whether positions or channels are hidden")
    width: int | None = Field(None, ge=1, description="channels inside the generator, where not the teacher's")


@fp32_island
def mgd_loss(generated: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of two (N, C, H, W) maps, summed over channels and positions, mean over images."""
    return F.mse_loss(generated, teacher, reduction="sum") / teacher.shape[0]


@register("mgd")
class MGD(Distiller):
    """Rebuilds the teacher's map from what is left of the student's when most positions are hidden."""

    config_type = MGDConfig
    card = Card(
        about="the teacher's maps, rebuilt from masked maps of the student",
        title="Masked Generative Distillation",
        venue="ECCV 2022",
        level="neck",
        arxiv="2205.01529",
        code="github.com/yzd-v/MGD",
        gain="RetinaNet X101 to R50 on COCO 37.4 to 41.0 AP; RTMDet s to tiny 41.1 to 41.4 (by MKD's authors)",
        weight_at="1333x800 px, five levels of 256 channels; a sum, so the value grows with size and width",
    )
    config: MGDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True, resize=False)
        widths = [level.teacher.channels for level in self.levels.pairs]
        self.generators = nn.ModuleList(generator(channels, self.config.width) for channels in widths)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        losses = []
        for (ours, theirs), fill in zip(self.levels.maps(student, knowledge), self.generators, strict=True):
            images, channels, height, width = ours.shape
            shape = (images, 1, height, width) if self.config.mask == "spatial" else (images, channels, 1, 1)
            losses.append(mgd_loss(fill(ours * random_mask(shape, self.config.ratio, moment.generator)), theirs))
        return {"feature": torch.stack(losses).sum()}
