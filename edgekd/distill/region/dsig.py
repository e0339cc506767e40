"""DSIG: a graph of instances, their features as nodes and their likeness as edges.

Deep Structured Instance Graph for Distilling Object Detectors, Chen et al., ICCV 2021, arXiv 2109.12862.
Code: github.com/dvlab-research/Dsig.

    u, v: RoIAlign of F_T and of phi(F_S), 7 x 7;  f: foreground regions of an image, b: background regions of it
    L_fg = mean over f of (u - v)^2;   L_bg = 7.5 n_f / n_b * mean over b of (u - v)^2
    E_ij = cos(x_i, x_j) over f and the 10 background regions that the teacher errs at (cross-entropy >= 0.6)
    L_edge = 0.5 * mean over i, j of (E_T - E_S)^2
    L = 0.5 L_fg + 0.5 L_bg + L_edge, of an image

**Reduction**: mean over the elements of the nodes, or over the edges, of an image; mean over images. An image without
any counts as 0.

Differs from the official code: foreground are the ground-truth boxes, background the teacher's detections that no label
explains, as dense detectors have no proposals to sample (the official one-stage form takes the student's detections and
calls them all foreground); mean over images, there a sum; L_bg is left out where there is no background. Where levels
differ in width, regions of a narrow level are filled up with zeros before they are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.region.shared import RegionConfig, RegionLevels
from edgekd.distill.requirements import shared_classes


class DSIGConfig(RegionConfig):
    """Keys of `dsig`."""

    weight: Weight = Field(1.0, description="factor on the three terms, each of which has its own")
    foreground: float = Field(0.5, ge=0, description="factor on the nodes of objects")
    background: float = Field(0.5, ge=0, description="factor on the nodes of background")
    background_scale: float = Field(7.5, ge=0, description="times objects / background regions: balances the two")
    edge: float = Field(1.0, ge=0, description="factor on the edges")
    mined: int = Field(10, ge=0, le=100, description="background regions of an image that have edges")
    min_cross_entropy: float = Field(0.6, ge=0, description="of the teacher at such a region, by which it errs")


@fp32_island
def node_loss(student: Tensor, teacher: Tensor, elements: Tensor, chosen: Tensor) -> Tensor:
    """(B,) mean squared difference over the chosen nodes' elements of each image, 0 without any.

    Args:
        student, teacher: (B, R, D).
        elements: (B, R) values of a node that are features.
        chosen: (B, R) bool.
    """
    distance = (student - teacher).square().sum(-1) * chosen
    return distance.sum(1) / (elements * chosen).sum(1).clamp_min(1)


@fp32_island
def edge_loss(student: Tensor, teacher: Tensor, chosen: Tensor) -> Tensor:
    """(B,) half the mean squared difference of the cosines between the chosen nodes of each image.

    Args:
        student, teacher: (B, R, D).
        chosen: (B, R) bool.
    """
    ours, theirs = (F.normalize(side, dim=-1, eps=1e-6) for side in (student, teacher))
    gap = (ours @ ours.transpose(1, 2) - theirs @ theirs.transpose(1, 2)).square()  # (B, R, R)
    pairs = chosen.unsqueeze(1) & chosen.unsqueeze(2)
    return 0.5 * (gap * pairs).sum((1, 2)) / pairs.sum((1, 2)).clamp_min(1)


@register("dsig")
class DSIG(Distiller):
    """Teaches objects, what the teacher takes for objects, and how alike they are."""

    config_type = DSIGConfig
    card = Card(
        about="a graph of instances: their features, and how alike they are",
        title="Deep Structured Instance Graph for Distilling Object Detectors",
        venue="ICCV 2021",
        level="region",
        arxiv="2109.12862",
        code="github.com/dvlab-research/Dsig",
        gain="Faster R-CNN R101 to R50 on COCO 40.57 AP, R50 to R18 37.25; RetinaNet R50 to R18 34.72",
        weight_at="640 to 800 px; means, so the value does not depend on the size",
    )
    requires = (shared_classes,)
    config: DSIGConfig
    levels: RegionLevels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = RegionLevels(pair, self.config, self.name, with_detections=True)
        return self.levels.wiring()

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """See `RegionLevels.knowledge`."""
        return self.levels.knowledge(teacher, batch)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`foreground`, `background` and `edge`, each with its own factor."""
        regions, features = self.levels.known(knowledge)
        theirs = regions.spread(features).flatten(2)
        ours = regions.spread(self.levels.of_student(student, regions)).flatten(2)
        elements = regions.spread(self.levels.cut.elements(regions.rows_px))
        objects = regions.valid & knowledge["is_object"]
        others = regions.valid & ~objects
        config = self.config
        ratio = config.background_scale * objects.sum(1) / others.sum(1).clamp_min(1)
        linked = objects | self._mined(knowledge["scores"], others)
        return {
            "foreground": config.foreground * node_loss(ours, theirs, elements, objects).mean(),
            "background": config.background * (ratio * node_loss(ours, theirs, elements, others)).mean(),
            "edge": config.edge * edge_loss(ours, theirs, linked).mean(),
        }

    def _mined(self, scores: Tensor, others: Tensor) -> Tensor:
        """(B, R) bool: background that the teacher takes for an object; its cross-entropy there is -log(1 - score)."""
        wrong = others & (scores >= 1 - math.exp(-self.config.min_cross_entropy))
        order = torch.where(wrong, scores, -1.0).argsort(1, descending=True).argsort(1)
        return wrong & (order < self.config.mined)
