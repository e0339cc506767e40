"""SoLAD: the teacher decides which points are positive, and its predictions are soft labels.

Improving Object Detection by Label Assignment Distillation, Nguyen et al., WACV 2022, arXiv 2108.10520.
Code: github.com/cybercore-co-ltd/CoLAD.

    assignment as in `lad`;   u_a = largest IoU of b_T[a] with a ground truth if above min_iou, else 0
    L_class = sum over a, k of ((p_S - p_T)^2 + 1e-6)^(gamma / 2) * KL(p_T || p_S)  /  max(1, sum over a of u_a)
    L_box = sum over a of u_a (1 - GIoU(b_S, b_T))  /  max(1, sum over a of u_a)

**Reduction**: sum over all points and classes, weighted mean over the points whose box the teacher has right; means
over the student's branches. KL is of Bernoulli distributions; both terms are 0 at identity.

Differs from the official code: there is no centerness to teach in these heads (its third term), and the sum of u is at
least 1. Part weights 2 and 1.3, gamma and min_iou are those of its configuration for PAA.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import best_iou, box_loss
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.head.lad import assigned_by_teacher
from edgekd.distill.heads import Heads, Side
from edgekd.distill.requirements import all_classes_known, all_points_shared, dense_heads, shared_classes


class SoLADConfig(DistillerConfig):
    """Keys of `solad`."""

    class_weight: float = Field(2.0, ge=0, description="factor on soft classes")
    box_weight: float = Field(1.3, ge=0, description="factor on boxes")
    gamma: float = Field(0.5, ge=0, le=4, description="of the focal factor on classes")
    min_iou: float = Field(0.5, ge=0, lt=1, description="the teacher's box counts above this IoU with an object")


@fp32_island
def focal_kl_loss(student: Tensor, teacher: Tensor, quality: Tensor, gamma: float = 0.5) -> Tensor:
    """KL of class probabilities, most where they differ.

    Args:
        student, teacher: (B, A, K) logits.
        quality: (B, A), its sum is what is divided by.
        gamma: of the focal factor.
    """
    target = teacher.sigmoid()
    yes = target * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (1 - target) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    factor = ((student.sigmoid() - target).square() + 1e-6).pow(gamma / 2)
    return (factor * (yes + no)).sum() / quality.sum().clamp_min(1.0)


@fp32_island
def soft_box_loss(student: Tensor, teacher: Tensor, quality: Tensor) -> Tensor:
    """1 - GIoU of (B, A, 4) boxes in px, weighted mean by (B, A)."""
    rows = quality.nonzero(as_tuple=True)
    loss = box_loss(student[rows], teacher[rows])
    return (loss * quality[rows]).sum() / quality.sum().clamp_min(1.0)


@register("solad")
class SoLAD(Distiller):
    """The student's loss takes the points that suit the teacher, and its predictions are soft labels there."""

    config_type = SoLADConfig
    card = Card(
        about="which points are positive, and soft labels",
        title="Improving Object Detection by Label Assignment Distillation",
        venue="WACV 2022",
        level="head",
        arxiv="2108.10520",
        code="github.com/cybercore-co-ltd/CoLAD",
        gain="PAA R101 to R50 on COCO 40.4 to 42.4 AP (1x)",
        weight_at="1333x800 px; sums over the quality of boxes, so the value does not depend on the size",
    )
    requires = (dense_heads, all_points_shared, shared_classes, all_classes_known)
    guides = True
    decided_by = frozenset({"min_iou"})
    config: SoLADConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        parts = Needs(parts=frozenset({"class_logits", "boxes"}))
        return Wiring(parts, parts)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `logits:` (B, A, K), `boxes_px:` (B, A, 4) and `quality:` (B, A), u of the equation."""
        kept = self.heads.knowledge(teacher, "logits", "boxes_px")
        for source in dict.fromkeys(source for _, source in self.heads.branches):
            quality = best_iou(kept[f"boxes_px:{source}"], batch)
            kept[f"quality:{source}"] = quality * (quality > self.config.min_iou)
        return kept

    def guidance(self, knowledge: Mapping[str, Tensor], batch: Batch) -> Guidance:
        """See `Distiller.guidance`."""
        return assigned_by_teacher(self.heads, knowledge)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`, means over the student's branches."""
        return self.heads.mean(self._of_branch, student, knowledge)

    def _of_branch(self, side: Side) -> dict[str, Tensor]:
        config, quality = self.config, side.theirs("quality")
        classes = focal_kl_loss(side.ours("logits"), side.theirs("logits"), quality, config.gamma)
        boxes = soft_box_loss(side.ours("boxes_px"), side.theirs("boxes_px"), quality)
        return {"class": config.class_weight * classes, "box": config.box_weight * boxes}
