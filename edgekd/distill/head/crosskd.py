"""CrossKD: the student's head features are judged by the teacher's head.

CrossKD: Cross-Head Knowledge Distillation for Object Detection, Wang et al., CVPR 2024, arXiv 2306.11369.
Code: github.com/jbwang1997/CrossKD.

    x = student's feature behind the first layer of a tower, per channel: (x_S - mean_S) / std_S * std_T + mean_T
    z, r = the rest of the frozen teacher's tower on x;   w_a = max over known k of p_T[a, k]
    L_class = sum over a, known k of |sigmoid(z) - p_T| * BCE(z, p_T)  /  max(1, number of positive points)
    L_box = sum over a of w_a * mean over edges of KL(softmax(r_T) || softmax(r))  /  max(1, sum over a of w_a)
    without a box distribution: 1 - GIoU of the decoded boxes in place of the KL

**Reduction**: class: sum over all points and known classes over the number of points that the student's loss makes
positive; box: sum over bins, mean over edges, weighted mean over points; means over the student's branches. Statistics
are of the whole batch, computed in float32. Gradients pass through both factors of the class term, as there.

Differs from the official code: the cut lies behind the activation of the first of two layers, there before the one of
the third of four; widths may differ (a 1x1 convolution; there they must be equal); a head without a distribution is
weighted as one with (there RetinaNet's over the positives). Box weights are GFL's (4) and RetinaNet's (1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Branch, DenseHead, Needs, Part
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss, from_distances
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.head.bckd import binary_class_loss
from edgekd.distill.head.ld import ld_loss
from edgekd.distill.heads import Heads, Known, Side
from edgekd.distill.requirements import (
    dense_heads,
    equal_bins,
    head_towers,
    lasting_teacher,
    shared_classes,
    shared_points,
)
from edgekd.distill.towers import CrossTower

PARTS: tuple[Part, ...] = ("class_logits", "boxes")


class CrossKDConfig(DistillerConfig):
    """Keys of `crosskd`."""

    class_weight: float = Field(1.0, ge=0, description="factor on classes; the paper's, 0.4 for FCOS")
    box_weight: float | None = Field(None, ge=0, description="factor on boxes; 4 with a distribution, 1 without")


@fp32_island
def overlap_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """1 - GIoU of (B, A, 4) boxes in px, weighted mean by (B, A)."""
    return (box_loss(student, teacher) * weight).sum() / weight.sum().clamp_min(1.0)


@register("crosskd")
class CrossKD(Distiller):
    """Teaches the student's towers features that the teacher's head reads as its own."""

    config_type = CrossKDConfig
    card = Card(
        about="head features, through the rest of the teacher's head",
        title="CrossKD: Cross-Head Knowledge Distillation for Object Detection",
        venue="CVPR 2024",
        level="head",
        arxiv="2306.11369",
        code="github.com/jbwang1997/CrossKD",
        gain="GFL R101 to R50 on COCO 40.2 to 43.7 AP (1x); RetinaNet 37.4 to 39.7, FCOS 38.5 to 41.1 (2x)",
        weight_at="1333x800 px; sums over positives and weighted means, so the value does not depend on the size",
    )
    requires = (dense_heads, equal_bins, shared_points, head_towers, lasting_teacher, shared_classes)
    config: CrossKDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads, head = Heads(pair), pair.teacher.head
        assert isinstance(head, DenseHead)
        self.bins, self.columns = head.bins, pair.columns or None
        own = self.config.box_weight
        self.box_weight = own if own is not None else 4.0 if self.bins > 1 else 1.0
        branches: dict[str, Branch] = {branch: branch for branch in get_args(Branch)}
        self.towers = nn.ModuleDict({
            f"{part} {branch}": CrossTower(pair, self.heads.points, part, branches[branch], branches[source])
            for part in PARTS
            for branch, source in self.heads.branches
        })  # fmt: skip
        self.kept: tuple[Known, ...] = ("logits", "confidence", "box_logits" if self.bins > 1 else "boxes_px")
        return Wiring(
            Needs.merged(Needs(tower.student_taps, frozenset({"assignment"})) for tower in self._all()),
            Needs.merged(Needs(tower.teacher_taps, frozenset(PARTS)) for tower in self._all()),
        )

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch its predictions and `confidence:` (B, A), and the statistics of its towers' features."""
        kept = self.heads.knowledge(teacher, *self.kept)
        for tower in self._all():
            kept |= tower.knowledge(teacher)
        return kept

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`, means over the student's branches."""
        return self.heads.mean(lambda side: self._of_branch(side, student), student, knowledge)

    def _of_branch(self, side: Side, student: DetectorOutput) -> dict[str, Tensor]:
        logits, boxes = (self.towers[f"{part} {side.branch}"](student, side.knowledge) for part in PARTS)
        classes = binary_class_loss(self._in_order(logits), side.theirs("logits"), side.positive_count, side.known)
        weight = side.theirs("confidence")
        if self.bins > 1:
            ours = boxes.reshape(-1, 4, self.bins)
            loss = ld_loss(ours, side.theirs("box_logits").flatten(0, 1), weight.flatten())
        else:
            ours = from_distances(side.points_px, side.strides, boxes)
            loss = overlap_loss(ours, side.theirs("boxes_px"), weight)
        return {"class": self.config.class_weight * classes, "box": self.box_weight * loss}

    def _in_order(self, logits: Tensor) -> Tensor:
        """The teacher's own columns in the order of the data's classes."""
        if self.columns is None:
            return logits
        index = torch.tensor(self.columns, device=logits.device).clamp_min(0)
        return logits.index_select(-1, index)

    def _all(self) -> list[CrossTower]:
        return [tower for tower in self.towers.values() if isinstance(tower, CrossTower)]
