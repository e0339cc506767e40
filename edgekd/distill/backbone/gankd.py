"""GAN-KD: a discriminator per level learns to tell the student's maps from the teacher's; the student learns to pass.

GAN-Knowledge Distillation for One-Stage Object Detection, Wang et al., IEEE Access 2020, arXiv 1906.08467. Notes of the
author: github.com/p517332051/GAN-Knowledge-Distillation-SSD.

    L_fool          = sum over levels of mean over n of -log D(phi(F_S))                              to the student
    L_discriminator = sum over levels of mean over n of -log D(F_T) - log(1 - D(phi(F_S)))             to D alone
    phi: 1x1 convolution where widths differ; D: convolutions of stride 2, a 1x1 convolution, mean over positions

**Reduction**: mean over images, sum over levels. At a discriminator that cannot tell, a level of L_fool is ln 2.

The source names neither the factor of L_fool nor depth and width of D ("several convolutions that downsample"); what is
chosen here (UNVERIFIED): 1, at which a fresh discriminator's ln 2 a level is about a tenth of a detection loss; three
convolutions of 64 channels. The published taps are the maps that feed SSD's head,
hence the neck as default; the survey of architectures files it under the backbone (`taps: backbone`).

Differs from the source: one step trains both sides at once instead of in turn. L_fool sees the discriminator's weights
as constants, L_discriminator the student's maps as constants; both are one loss for one optimiser, and give each side
the gradient that it has when they alternate.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class GANKDConfig(FeatureConfig):
    """Keys of `gankd`."""

    weight: Weight = Field(1.0, description="factor on `fool`; the discriminator's own loss always counts whole")
    depth: int = Field(3, ge=1, le=6, description="convolutions of stride 2 in a discriminator")
    width: int = Field(64, ge=1, description="channels in a discriminator")


@fp32_island
def fool_loss(fake: Tensor) -> Tensor:
    """-log D of the student's logits (N,), mean over images."""
    return F.softplus(-fake).mean()


@fp32_island
def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-log D of the teacher's logits and -log(1 - D) of the student's, both (N,), means over images."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


class Discriminator(nn.Module):
    """The logit that a map is the teacher's; in float32 under mixed precision, too, which adversaries bear badly."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [channels, *[width] * depth]
        layers = [nn.Conv2d(before, after, 3, 2, 1) for before, after in pairwise(widths)]
        self.layers = nn.Sequential(*(step for layer in layers for step in (layer, nn.LeakyReLU(0.2))))
        self.out = nn.Conv2d(width, 1, 1)

    @fp32_island
    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W) to (N,)."""
        logits: Tensor = self.out(self.layers(feature))
        return logits.mean((1, 2, 3))


@register("gankd")
class GANKD(Distiller):
    """Makes the distribution of the student's maps that of the teacher's, without comparing them place by place."""

    config_type = GANKDConfig
    auxiliary = frozenset({"discriminator"})
    card = Card(
        about="maps that a discriminator takes for the teacher's",
        title="GAN-Knowledge Distillation for One-Stage Object Detection",
        venue="IEEE Access 2020",
        level="backbone",
        arxiv="1906.08467",
        code="github.com/p517332051/GAN-Knowledge-Distillation-SSD (notes, no code)",
        gain="SSD R50 to MobileNetV1 on VOC07 75.4 to 77.7 mAP, on COCO 21.7 to 25.4",
    )
    config: GANKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True, resize=False)
        self.discriminators = nn.ModuleList(
            Discriminator(level.teacher.channels, self.config.width, self.config.depth) for level in self.levels.pairs
        )
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`fool`, and the auxiliary `discriminator`."""
        fool, discriminator = [], []
        for (ours, theirs), judge in zip(self.levels.maps(student, knowledge), self.discriminators, strict=True):
            constant = {name: value.detach() for name, value in judge.named_parameters()}
            fool.append(fool_loss(functional_call(judge, constant, ours)))
            discriminator.append(discriminator_loss(judge(theirs), judge(ours.detach())))
        return {"fool": torch.stack(fool).sum(), "discriminator": torch.stack(discriminator).sum()}
