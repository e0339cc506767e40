"""DeFeat: decoupled features, objects and background apart.

Distilling Object Detectors via Decoupled Features, Guo et al., CVPR 2021, arXiv 2103.14475.
Code: github.com/ggjy/DeFeat.pytorch.

    M = 1 inside the boxes that belong to a level, else 0;   d = (phi(F_S) - F_T)^2,   phi: 3x3 convolution
    L = mean over levels of  object / 2 * sum of M d / sum of M  +  background / 2 * sum of (1 - M) d / sum of (1 - M)

**Reduction**: mean over channels and over the object cells of the batch, likewise over its background cells (a half of
each), mean over levels. The value depends on neither batch, width nor image size.

Differs from the official code: the head's part needs proposals and is left out; it is switched off in the released
configuration, too. A box that is thinner than a cell is painted in full length instead of in one cell. Sums of masks
are counted in cells, not in cells times channels, which differs where a level has no object at all. Levels of any
strides are served by the rule that the code has for strides 4 to 64. Images without labels have no background.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island, start_near_zero
from edgekd.distill.box_masks import box_mask, has_labels, level_of_boxes
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register


class DeFeatConfig(FeatureConfig):
    """Keys of `defeat`."""

    weight: Weight = Field(1.0, description="factor on both terms")
    object_weight: float = Field(3.0, ge=0, description="of the cells inside boxes")
    background_weight: float = Field(12.0, ge=0, description="of all other cells")
    boxes: Literal["by_size", "all"] = Field(
        "by_size", description="painted on the level that the box's size belongs to, or on all levels"
    )
    adapter: Literal["conv3x3", "conv1x1"] = Field("conv3x3", description="of the student's maps")


@fp32_island
def defeat_loss(student: Tensor, teacher: Tensor, objects: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """Halves of the weighted mean squared difference on either side; 0 for a side without cells.

    Args:
        student, teacher: (N, C, H, W).
        objects, background: (N, H, W), weights from 0 to 1.
    """
    distance = (student - teacher).square().mean(1)
    inside, outside = ((distance * side).sum() / (2 * side.sum().clamp_min(1)) for side in (objects, background))
    return inside, outside


@register("defeat")
class DeFeat(Distiller):
    """Imitates features of objects and of the background, each with its own weight; most of the gain is background."""

    config_type = DeFeatConfig
    card = Card(
        about="feature maps, objects and background weighted apart",
        title="Distilling Object Detectors via Decoupled Features",
        venue="CVPR 2021",
        level="neck",
        arxiv="2103.14475",
        code="github.com/ggjy/DeFeat.pytorch",
        gain="Faster R-CNN R101 to R50 on COCO 38.4 to 40.3 AP, RetinaNet 37.4 to 39.3 (GKD's table)",
        weight_at="1000x600 px (VOC), five levels of 256 channels; means, so the value does not depend on the size",
    )
    config: DeFeatConfig
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter)
        start_near_zero(self.levels.adapters)
        return self.levels.wiring()

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`object` and `background`."""
        sides = []
        home = level_of_boxes(batch, [pair.teacher.stride for pair in self.levels.pairs])
        for level, (ours, theirs) in enumerate(self.levels.maps(student, knowledge)):
            chosen = home == level if self.config.boxes == "by_size" else None
            objects = box_mask(batch, (theirs.shape[2], theirs.shape[3]), chosen)
            background = (1 - objects) * has_labels(batch)
            sides.append(torch.stack(defeat_loss(ours, theirs, objects, background)))
        inside, outside = torch.stack(sides).mean(0).unbind()
        return {"object": inside * self.config.object_weight, "background": outside * self.config.background_weight}
