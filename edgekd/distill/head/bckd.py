"""BCKD: classes as binary maps, boxes by their overlap, both where student and teacher disagree.

Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection, Yang et al., ICCV 2023, arXiv
2308.14286. Code: github.com/TinyTigerPan/BCKD.

    d[a, k] = |p_S - p_T|
    L_class = sum over a, known k of d[a, k] * BCE(z_S[a, k], p_T[a, k]) / max(1, P)
    L_box = sum over a of max_k d[a, k] * (1 - GIoU(b_S, b_T)) / max(1, P)

P is the number of points that the student's loss makes positive.

**Reduction**: sums over all points and classes over the number of positives; means over the student's branches. Both
terms are 0 at p_S = p_T. As in the official code, gradients pass through d in the class term and not in the box term.

Differs from the official code: there a level without positives is left out of both terms; here every level counts.
Weights 1 and 4 are those of its configurations for GFL; the published tables are for its 1333 x 800 px.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class BCKDConfig(DistillerConfig):
    """Keys of `bckd`."""

    class_weight: float = Field(1.0, ge=0, description="factor on class scores")
    box_weight: float = Field(4.0, ge=0, description="factor on boxes")
    beta: float = Field(1.0, ge=1, le=4, description="power of the disagreement")


@fp32_island
def binary_class_loss(
    student: Tensor, teacher: Tensor, positives: Tensor, known: Tensor | None = None, beta: float = 1.0
) -> Tensor:
    """BCE with soft targets where scores differ.

    Args:
        student, teacher: (B, A, K) logits.
        positives: scalar, what is divided by.
        known: (K,) bool, classes that the teacher knows; None: all.
        beta: power of the difference.
    """
    factor = _disagreement(student, teacher, known, beta)
    loss = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")
    return (factor * loss).sum() / positives


@fp32_island
def disagreeing_box_loss(student: Tensor, teacher: Tensor, weight: Tensor, positives: Tensor) -> Tensor:
    """1 - GIoU of (B, A, 4) boxes in px, weighted by (B, A), over the number of positives."""
    return (box_loss(student, teacher) * weight).sum() / positives


@register("bckd")
class BCKD(Distiller):
    """Teaches scores and boxes of all points, most where the student disagrees."""

    config_type = BCKDConfig
    card = Card(
        about="class scores and boxes, where the two disagree",
        title="Bridging Cross-task Protocol Inconsistency for Distillation in Dense Object Detection",
        venue="ICCV 2023",
        level="head",
        arxiv="2308.14286",
        code="github.com/TinyTigerPan/BCKD",
        gain="GFL R101 to R50 on COCO 40.1 to 43.2 AP, R34 38.9 to 42.0, R18 35.8 to 38.6 (1x)",
        weight_at="1333x800 px; sums over positives, so the value does not depend on the size",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: BCKDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        parts = Needs(parts=frozenset({"class_logits", "boxes"}))
        return Wiring(parts | Needs(parts=frozenset({"assignment"})), parts)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `logits:` (B, A, K) and `boxes_px:` (B, A, 4)."""
        return self.heads.knowledge(teacher, "logits", "boxes_px")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`, means over the student's branches."""
        return self.heads.mean(self._of_branch, student, knowledge)

    def _of_branch(self, side: Side) -> dict[str, Tensor]:
        config, count = self.config, side.positive_count
        ours, theirs = side.ours("logits"), side.theirs("logits")
        classes = binary_class_loss(ours, theirs, count, side.known, config.beta)
        weight = _disagreement(ours.detach(), theirs, side.known, config.beta).amax(-1)
        boxes = disagreeing_box_loss(side.ours("boxes_px"), side.theirs("boxes_px"), weight, count)
        return {"class": config.class_weight * classes, "box": config.box_weight * boxes}


@fp32_island
def _disagreement(student: Tensor, teacher: Tensor, known: Tensor | None, beta: float) -> Tensor:
    """|p_S - p_T|^beta (B, A, K), 0 for classes that the teacher does not know."""
    difference = (student.sigmoid() - teacher.sigmoid()).abs()
    if beta != 1:
        difference = difference.pow(beta)
    return difference if known is None else difference * known
