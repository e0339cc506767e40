"""KDHL: soft classes with a heavier background, and boxes bounded by the teacher's.

Learning Efficient Object Detection Models with Knowledge Distillation, Chen et al., NeurIPS 2017. No official code.

    L_class = sum over a, known k of BCE(z_S, p_T), its background side times w_bg  /  max(1, sum over a of max_k p_T)
    l(b) = 1 - CIoU(b, y);   bound_a = 1 if l(b_S) + m > l(b_T), else 0
    L_box = sum over positive a of w_a * bound_a * l(b_S)  /  max(1, sum over positive a of w_a)

y is the ground truth of a point that the student's loss makes positive, w_a the sum of its class targets.

**Reduction**: sum over points and classes over the teacher's confidence; weighted mean over positives; means over the
student's branches. With w_bg > 1 the class term draws scores below the teacher's, as the paper's weights do.

Differs from the paper (there is no official code; read in notes and re-implementations): classes are independent
(sigmoid), so the background's weight is that of the side 1 - p; the class term sees all points of the head, as the
student's own does, where the paper has sampled proposals; smooth L1 and squared distances give way to 1 - CIoU. The
hint on features is `fitnet`'s. The paper gives neither margin m nor the share mu of hard labels: m = 0, and mu = 0.5
becomes equal parts of hard and soft labels. Part weights are the paper's (nu = 0.5, mu = 0.5) times the gains of YOLO's
own losses (7.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
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


class KDHLConfig(DistillerConfig):
    """Keys of `kdhl`."""

    class_weight: float = Field(0.5, ge=0, description="factor on soft classes; YOLO's own gain is 0.5")
    box_weight: float = Field(3.75, ge=0, description="factor on bounded boxes; half of YOLO's own gain of 7.5")
    background: float = Field(1.5, gt=0, le=10, description="weight of the background's side of a class")
    margin: float = Field(0.0, ge=0, le=1, description="of the bound, in IoU; the paper gives none")


@fp32_island
def soft_class_loss(
    student: Tensor, teacher: Tensor, confidence: Tensor, known: Tensor | None = None, background: float = 1.5
) -> Tensor:
    """BCE of class logits with soft targets.

    Args:
        student, teacher: (B, A, K) logits.
        confidence: (B, A), the teacher's; its sum is what is divided by.
        known: (K,) bool, classes that the teacher knows; None: all.
        background: weight of 1 - p.
    """
    target = teacher.sigmoid()
    loss = -target * F.logsigmoid(student) - background * (1 - target) * F.logsigmoid(-student)
    if known is not None:
        loss = loss * known
    return loss.sum() / confidence.sum().clamp_min(1.0)


@fp32_island
def bounded_box_loss(student: Tensor, teacher: Tensor, truth: Tensor, margin: float = 0.0) -> Tensor:
    """1 - CIoU of the student's boxes with the truth, 0 where the teacher's are worse by `margin`: (P,).

    Args:
        student, teacher, truth: (P, 4) px.
    """
    ours, theirs = box_loss(student, truth, "ciou"), box_loss(teacher, truth, "ciou")
    return torch.where(ours.detach() + margin > theirs, ours, ours * 0)


@register("kdhl")
class KDHL(Distiller):
    """Teaches soft classes, and boxes where the teacher's are better."""

    config_type = KDHLConfig
    card = Card(
        about="soft classes, and boxes where the teacher's are better",
        title="Learning Efficient Object Detection Models with Knowledge Distillation",
        venue="NeurIPS 2017",
        level="head",
        gain="Faster R-CNN VGG16 to Tucker-AlexNet on VOC07 54.7 to 59.4 mAP, with its hint on features",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: KDHLConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        parts = Needs(parts=frozenset({"class_logits", "boxes"}))
        return Wiring(parts | Needs(parts=frozenset({"assignment"})), parts)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `logits:` (B, A, K), `confidence:` (B, A) and `boxes_px:` (B, A, 4)."""
        return self.heads.knowledge(teacher, "logits", "confidence", "boxes_px")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`, means over the student's branches."""
        return self.heads.mean(lambda side: self._of_branch(side, batch), student, knowledge)

    def _of_branch(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        config, positives = self.config, side.positives(batch)
        soft = soft_class_loss(
            side.ours("logits"), side.theirs("logits"), side.theirs("confidence"), side.known, config.background
        )
        ours, theirs = positives.of(side.ours("boxes_px")), positives.of(side.theirs("boxes_px"))
        bounded = bounded_box_loss(ours, theirs, positives.boxes_px, config.margin)
        return {"class": config.class_weight * soft, "box": config.box_weight * positives.mean(bounded)}
