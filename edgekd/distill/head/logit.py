"""Class scores of a dense head, weighted by the teacher's confidence.

The confidence weight is that of D-YOLO: Object Detection at 200 Frames Per Second, Mehta & Ozturk, ECCV workshops 2018,
arXiv 1805.06361 (objectness). The optional modulation is CrossKD's: Wang et al., CVPR 2024, arXiv 2306.11369,
github.com/jbwang1997/CrossKD, after Generalized Focal Loss, Li et al., NeurIPS 2020, arXiv 2006.04388.

    p = sigmoid(z);   w_a = max over known k of p_T[a, k]
    L = sum over a of w_a * sum over known k of |p_S - p_T|^beta * BCE(z_S[a, k], p_T[a, k]) / max(1, sum over a of w_a)

**Reduction**: sum over classes, weighted mean over the points of the batch, mean over the student's branches. With soft
targets the value at p_S = p_T is the targets' entropy, not zero, unless beta > 0; the gradient is zero.

Differs from the official code: no objectness (the best class score takes its place) and no feature-map NMS; normalised
by the sum of weights instead of the number of positives, so no assigner is needed; the modulation is constant in the
gradient. A student with two branches and a teacher with one (or the reverse): each student branch learns from the
teacher's branch of the same kind, else from the one there is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import DistillerConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side, by_confidence
from edgekd.distill.packing import Points
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class LogitConfig(DistillerConfig):
    """Keys of `logit`."""

    weight: Weight = Field(0.5, description="factor; 0.5 is the gain of YOLO's own class loss")
    beta: float = Field(0.0, ge=0, le=4, description="power of |p_S - p_T|; 0: plain BCE, 1: CrossKD, 2: focal")


@fp32_island
def logit_loss(
    student: Tensor, teacher: Tensor, weight: Tensor, known: Tensor | None = None, beta: float = 0.0
) -> Tensor:
    """Weighted BCE of class logits with soft targets.

    Args:
        student, teacher: (B, A, K) logits.
        weight: (B, A), the teacher's confidence.
        known: (K,) bool, classes that the teacher knows; None: all.
        beta: power of the modulation.
    """
    target = teacher.sigmoid()
    factor = weight.unsqueeze(-1)
    if known is not None:
        factor = factor * known
    if beta > 0:
        factor = factor * (student.detach().sigmoid() - target).abs().pow(beta)
    loss = F.binary_cross_entropy_with_logits(student, target, weight=factor, reduction="sum")
    return loss / weight.sum().clamp_min(1.0)


@register("logit")
class Logit(Distiller):
    """Teaches class scores where the teacher sees something."""

    config_type = LogitConfig
    card = Card(
        about="class scores, weighted by the teacher's confidence",
        title="D-YOLO: Object Detection at 200 Frames Per Second; CrossKD",
        venue="ECCV workshops 2018; CVPR 2024",
        level="head",
        arxiv="1805.06361; 2306.11369",
        code="github.com/jbwang1997/CrossKD",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: LogitConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        return Wiring(Needs(parts=frozenset({"class_logits"})), Needs(parts=frozenset({"class_logits"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits:<branch>` (B, A, K) and `confidence:<branch>` (B, A) per branch, at the shared points."""
        return self.heads.knowledge(teacher, "logits", "confidence")

    def stored(self, key: str) -> Points | None:
        """Where the teacher is sure: the terms weigh points by that."""
        return by_confidence(key)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class`, the mean over the student's branches."""

        def of_branch(side: Side) -> dict[str, Tensor]:
            weight = side.theirs("confidence")
            return {
                "class": logit_loss(side.ours("logits"), side.theirs("logits"), weight, side.known, self.config.beta)
            }

        return self.heads.mean(of_branch, student, knowledge)
