"""DMKD: the teacher's map, rebuilt from maps whose strongest positions, or strongest channels, were hidden.

DMKD: Improving Feature-based Knowledge Distillation for Object Detection Via Dual Masking Augmentation, Yang et al.,
ICASSP 2024, arXiv 2309.02719. No code.

    M_s = 0 at the `spatial_ratio` of positions where the teacher's attention A_s is largest, else 1
    M_c = 0 at the `channel_ratio` of channels where the teacher's attention A_c is largest, else 1
    R = w_1 G_1(M_s phi(F_S)) + w_2 G_2(M_c phi(F_S)),   (w_1, w_2) = softmax of two trained numbers
    L = sum over levels of 1 / N * sum over n, c, h, w of (SE(R) - F_T)^2
    phi: 1x1 convolution where widths differ; G: 3x3 convolution, ReLU, 3x3 convolution; SE: squeeze and excitation

**Reduction**: that of `mgd`: sum over channels and positions, mean over images, sum over levels.

Rebuilt from the abstract, which names two masks guided by attention, their reconstructions, and a "self-adjustable
weighting" of the two. All else is chosen here (UNVERIFIED): attention at temperature 0.5 as in FGD, ratio 0.65 and
weight 2e-5 as in MGD, the neck as taps, the softmax of the weights, the gate on their sum. So no published figure is
claimed. The survey of architectures files it under the backbone, whose stages it takes as well (`taps: backbone`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels
from edgekd.distill.attention import channel_attention, spatial_attention
from edgekd.distill.blocks import generator
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.masks import strongest_hidden
from edgekd.distill.neck.mgd import mgd_loss

SQUEEZE = 16  # channels of a map over channels inside the gate, of which there are at least four


class DMKDConfig(FeatureConfig):
    """Keys of `dmkd`."""

    weight: Weight = Field(2e-5, description="factor on the sum over levels; MGD's, the paper's is not known")
    spatial_ratio: float = Field(0.65, ge=0, lt=1, description="share of positions that is hidden")
    channel_ratio: float = Field(0.65, ge=0, lt=1, description="share of channels that is hidden")
    temperature: float = Field(0.5, gt=0, description="of the teacher's attention")


class Rebuild(nn.Module):
    """Two masked maps to one of the teacher's width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.spatial, self.channel = generator(channels), generator(channels)
        self.balance = nn.Parameter(torch.zeros(2))
        inner = max(channels // SQUEEZE, 4)
        self.gate = nn.Sequential(nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, channels), nn.Sigmoid())

    def forward(self, without_positions: Tensor, without_channels: Tensor) -> Tensor:
        """Both (N, C, H, W) to the same."""
        first, second = self.balance.softmax(0)
        both: Tensor = first * self.spatial(without_positions) + second * self.channel(without_channels)
        scale: Tensor = self.gate(both.mean((2, 3)))
        return both * scale.reshape(*scale.shape, 1, 1)


@register("dmkd")
class DMKD(Distiller):
    """Rebuilds the teacher's map from the student's when what the teacher finds important is hidden."""

    config_type = DMKDConfig
    card = Card(
        about="the teacher's maps, rebuilt without its strongest positions or channels",
        title="DMKD: Improving Feature-based Knowledge Distillation for Object Detection Via Dual Masking Augmentation",
        venue="ICASSP 2024",
        level="backbone",
        arxiv="2309.02719",
        gain="4.1 AP with a RetinaNet teacher on COCO (abstract); none for this reconstruction of it",
    )
    config: DMKDConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True, resize=False)
        self.rebuilds = nn.ModuleList(Rebuild(level.teacher.channels) for level in self.levels.pairs)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        config, losses = self.config, []
        for (ours, theirs), rebuild in zip(self.levels.maps(student, knowledge), self.rebuilds, strict=True):
            positions = strongest_hidden(spatial_attention(theirs, config.temperature), config.spatial_ratio)
            channels = strongest_hidden(channel_attention(theirs, config.temperature), config.channel_ratio)
            losses.append(mgd_loss(rebuild(ours * positions, ours * channels), theirs))
        return {"feature": torch.stack(losses).sum()}
