"""FGFI: fine-grained feature imitation, near objects alone.

Distilling Object Detectors with Fine-grained Feature Imitation, Wang et al., CVPR 2019, arXiv 1906.03609.
Code: github.com/twangnh/Distilling-Object-Detectors.

    m_k = max over levels and anchors of IoU(anchor, box k)
    I = 1 at cells with an anchor whose IoU with any box k is above psi * m_k
    L = 1 / (2 N_p) * sum over levels, n, c, h, w of I (phi(F_S) - F_T)^2,   N_p = sum of I,   phi: 3x3 convolution

**Reduction**: sum over channels, mean over the chosen cells of all levels and images (a half of it). The value grows
with the teacher's width, and with nothing else.

Differs from the official code: that has one level; here the best IoU of a box is that over all levels (as in LD's
port), so a box is imitated where its size belongs. One anchor of side 8 strides per ratio 1:2, 1:1 and 2:1 (RPN's on
a pyramid) in place of three sizes at one level. No ReLU behind the adapter: necks of today have negative outputs. The
400 steps without the term at the start are `schedule`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island, start_near_zero
from edgekd.distill.box_masks import anchor_overlaps, any_box
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class FGFIConfig(FeatureConfig):
    """Keys of `fgfi`."""

    weight: Weight = Field(0.01, description="factor on the mean over cells, which sums over channels")
    psi: float = Field(0.5, ge=0, lt=1, description="share of a box's best IoU from which a cell is imitated")
    anchor_scale: float = Field(8.0, gt=0, le=64, description="side of a square anchor, in strides")
    adapter: Literal["conv3x3", "conv1x1"] = Field("conv3x3", description="of the student's maps")


def imitation_masks(
    batch: Batch, sizes: Sequence[tuple[int, int]], strides: Sequence[int], psi: float = 0.5, anchor_scale: float = 8.0
) -> list[Tensor]:
    """Per level, cells near objects: (B, H, W) float of 0 and 1.

    Args:
        sizes: (H, W) per level.
        strides: pixels per cell, per level.
    """
    overlaps = [anchor_overlaps(batch, *level, anchor_scale) for level in zip(sizes, strides, strict=True)]
    best = torch.stack([overlap.flatten(1).amax(1) for overlap in overlaps]).amax(0)  # (M,)
    return [any_box((overlap > psi * best[:, None, None, None]).any(-1), batch) for overlap in overlaps]


@fp32_island
def fgfi_loss(student: Tensor, teacher: Tensor, mask: Tensor, cells: Tensor) -> Tensor:
    """One level's part of the loss.

    Args:
        student, teacher: (N, C, H, W).
        mask: (N, H, W) of 0 and 1.
        cells: how many are chosen on all levels together; 0 gives 0.
    """
    distance = (student - teacher).square().sum(1)
    return (distance * mask).sum() / (2 * cells.clamp_min(1))


@register("fgfi")
class FGFI(Distiller):
    """Imitates features in cells that anchors tie to objects, and nowhere else."""

    config_type = FGFIConfig
    card = Card(
        about="feature maps near objects, by the overlap of anchors",
        title="Distilling Object Detectors with Fine-grained Feature Imitation",
        venue="CVPR 2019",
        level="neck",
        arxiv="1906.03609",
        code="github.com/twangnh/Distilling-Object-Detectors",
        gain="Faster R-CNN VGG16 to VGG11 on VOC 2007 59.6 to 67.6 mAP; on COCO R101 to R50 38.4 to 39.3 AP, RetinaNet "
        "37.4 to 38.6 (GKD's table)",
        weight_at="short side 600 px, one level of 512 channels; grows with the channels, not with the size",
    )
    config: FGFIConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter)
        start_near_zero(self.levels.adapters)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        maps = list(self.levels.maps(student, knowledge))
        sizes = [(target.shape[2], target.shape[3]) for _, target in maps]
        strides = [pair.teacher.stride for pair in self.levels.pairs]
        masks = imitation_masks(batch, sizes, strides, self.config.psi, self.config.anchor_scale)
        cells = torch.stack([mask.sum() for mask in masks]).sum()
        losses = [fgfi_loss(ours, theirs, mask, cells) for (ours, theirs), mask in zip(maps, masks, strict=True)]
        return {"feature": torch.stack(losses).sum()}
