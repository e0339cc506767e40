"""GKD: objects measured by prototypes, and distilled as far as both sides agree about them.

Distilling Object Detectors with Global Knowledge, Tang et al., ECCV 2022, arXiv 2210.09022.
Code: github.com/hikvision-research/DAVAR-Lab-ML.

    f_i = mean of a level's map over box i;   G = prototypes of all classes, chosen before each epoch (prototypes.py)
    omega_i = 1 - | max over own class of cos(f_S_i, G_S) - max over own class of cos(f_T_i, G_T) |   no gradient
    relation * sum over levels of mean over i, G of smoothL1(omega_i cos(f_S_i, G_S), omega_i cos(f_T_i, G_T))
    + DeFeat's loss with M = omega_i inside the boxes that belong to a level, factors 1 (objects) and 4 (background)

**Reduction**: means over boxes, prototypes, channels and cells; the relation is summed over levels, objects and
background averaged. The value depends on neither batch, width nor image size.

Differs from the official code: cosines of all prototypes are compared although the released configuration of Faster
R-CNN has that part off (`relation: 0`); no soft labels of proposals (add `logit`); boxes are ground truth, not the
assigner's proposals, and of every size; where boxes overlap on a level, the surest counts. A class without prototypes,
and every class before the first epoch, has omega 1 and no relation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island, start_near_zero
from edgekd.distill.box_masks import box_mask, has_labels, level_of_boxes, pooled
from edgekd.distill.config import FeatureConfig, Schedule, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Survey, Wiring, register
from edgekd.distill.neck.defeat import defeat_loss
from edgekd.distill.prototypes import PrototypeBank


class GKDConfig(FeatureConfig):
    """Keys of `gkd`."""

    weight: Weight = Field(1.0, description="factor on all three terms")
    schedule: Schedule = Field(Schedule(decay="linear", final=0.0), description="of the weight; it fades out")
    relation: float = Field(5.0, ge=0, description="of the cosines with prototypes")
    object_weight: float = Field(1.0, ge=0, description="of the cells inside boxes")
    background_weight: float = Field(4.0, ge=0, description="of all other cells")
    prototypes: int = Field(10, ge=1, le=100, description="per class and level")
    instances: int = Field(800, ge=1, le=10_000, description="boxes per class that prototypes are chosen from")
    agreement: float = Field(10.0, ge=0, description="how much both sides' weights must agree in that choice")
    adapter: Literal["conv3x3", "conv1x1"] = Field("conv3x3", description="of the student's maps")


@fp32_island
def cosines(features: Tensor, prototypes: Tensor) -> Tensor:
    """Of (M, C) boxes with (K, P, C) prototypes of length 1, (M, K, P)."""
    return torch.einsum("mc,kpc->mkp", F.normalize(features, dim=1), prototypes)


def reliability(ours: Tensor, theirs: Tensor, class_ids: Tensor, found: Tensor) -> Tensor:
    """omega of each box, (M,), without gradient.

    Args:
        ours, theirs: (M, K, P) cosines of either side.
        class_ids: (M,).
        found: (K,) bool, classes that have prototypes.
    """
    rows = torch.arange(len(class_ids), device=class_ids.device)
    best = [cosine.detach()[rows, class_ids].amax(1) for cosine in (ours, theirs)]
    return torch.where(found[class_ids], 1 - (best[0] - best[1]).abs(), 1.0).clamp_min(0)


@fp32_island
def relation_loss(ours: Tensor, theirs: Tensor, omega: Tensor, found: Tensor) -> Tensor:
    """Smooth L1 of the cosines, weighted by omega before it, mean over boxes and prototypes; 0 without either."""
    own, other = (cosine[:, found] * omega[:, None, None] for cosine in (ours, theirs))
    loss = F.smooth_l1_loss(own, other, reduction="sum")
    return loss / max(len(omega) * int(found.sum()) * ours.shape[2], 1)


@register("gkd")
class GKD(Distiller):
    """Teaches how objects lie among typical ones, and imitates features of those that both sides see alike."""

    config_type = GKDConfig
    surveys = True
    card = Card(
        about="objects' place among prototypes, and feature maps by how sure that is",
        title="Distilling Object Detectors with Global Knowledge",
        venue="ECCV 2022",
        level="neck",
        arxiv="2210.09022",
        code="github.com/hikvision-research/DAVAR-Lab-ML",
        gain="Faster R-CNN R101 to R50 on COCO 38.4 to 40.6 AP, RetinaNet 37.4 to 39.8",
        weight_at="1333x800 px, five levels of 256 channels; means, so the value does not depend on the size",
    )
    config: GKDConfig
    levels: Levels
    bank: PrototypeBank

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter)
        start_near_zero(self.levels.adapters)
        classes = len(pair.class_names or pair.student.class_names)
        widths = [(level.student.channels, level.teacher.channels) for level in self.levels.pairs]
        config = self.config
        self.bank = PrototypeBank(classes, widths, config.prototypes, config.instances, config.agreement)
        return self.levels.wiring()

    def epoch_began(self, moment: Moment, survey: Survey) -> None:
        """Choose the prototypes of every class and level anew, of the features that both sides have now."""
        self.bank.choose(survey, lambda seen: self._maps(seen.student, seen.knowledge))

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`relation`, `object` and `background`."""
        home = level_of_boxes(batch, [level.teacher.stride for level in self.levels.pairs])
        relations, sides = [], []
        adapted = self.levels.maps(student, knowledge)
        for index, (maps, (ours, theirs)) in enumerate(zip(self._maps(student, knowledge), adapted, strict=True)):
            own, other = (
                cosines(pooled(feature, batch), prototypes)
                for feature, prototypes in zip(maps, self.bank.of_level(index), strict=True)
            )
            omega = reliability(own, other, batch.class_ids, self.bank.found)
            relations.append(relation_loss(own, other, omega, self.bank.found))
            size, chosen = (theirs.shape[2], theirs.shape[3]), home == index
            objects, boxes = box_mask(batch, size, omega * chosen), box_mask(batch, size, chosen)
            sides.append(torch.stack(defeat_loss(ours, theirs, objects, (1 - boxes) * has_labels(batch))))
        inside, outside = torch.stack(sides).mean(0).unbind()
        return {
            "relation": torch.stack(relations).sum() * self.config.relation,
            "object": inside * self.config.object_weight,
            "background": outside * self.config.background_weight,
        }

    def _maps(self, student: DetectorOutput, knowledge: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Both sides' maps of each level as they are, each side in its own feature space."""
        return [(student.taps[level.student.key], knowledge[level.teacher.key]) for level in self.levels.pairs]
