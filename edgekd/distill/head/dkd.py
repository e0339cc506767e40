"""DKD: what the teacher says of the object's class, and what of all others, apart.

Decoupled Knowledge Distillation, Zhao et al., CVPR 2022, arXiv 2203.08679. Code: github.com/megvii-research/mdistiller.

    t = class of the ground truth
    TCKD = KL of Bernoulli distributions, sigmoid(z_T[t] / T) || sigmoid(z_S[t] / T)
    NCKD = KL of softmax(z / T) over the other known classes, teacher || student
    L = T^2 * sum over positive a of w_a (alpha * TCKD + beta * NCKD) / max(1, sum over positive a of w_a)

**Reduction**: sum over classes, weighted mean over the points that the student's loss makes positive (w_a: the sum of
the point's class targets), mean over the student's branches.

Differs from the official code: that is for softmax heads of two-stage detectors, where the target's probability comes
from a softmax with the background and all sampled proposals count, background included. The form for sigmoid heads is
our own, not the paper's: TCKD takes the target's own sigmoid, and NCKD is the official one over the other classes.
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
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class DKDConfig(DistillerConfig):
    """Keys of `dkd`."""

    alpha: float = Field(1.0, ge=0, le=100, description="factor on the target class")
    beta: float = Field(0.25, ge=0, le=100, description="factor on the other classes; up to 8 in classification")
    temperature: float = Field(1.0, gt=0, le=100, description="of the class distributions")


@fp32_island
def target_divergence(student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL of the target's Bernoulli distributions times T^2: (P,).

    Args:
        student, teacher: (P, K) logits.
        target: (P,) int64.
    """
    ours, theirs = (logits.gather(1, target.unsqueeze(1)).squeeze(1) / temperature for logits in (student, teacher))
    yes = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    no = (-theirs).sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return (yes + no) * temperature**2


@fp32_island
def others_divergence(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: float = 1.0, known: Tensor | None = None
) -> Tensor:
    """KL of the softmax over all known classes but the target, times T^2: (P,); 0 where there is one other or none.

    Args:
        student, teacher: (P, K) logits.
        target: (P,) int64.
        known: (K,) bool, classes that the teacher knows; None: all.
    """
    left_out = F.one_hot(target, student.shape[1]).bool()
    if known is not None:
        left_out = left_out | ~known
    lowest = torch.finfo(student.dtype).min
    ours, theirs = (
        F.log_softmax((logits / temperature).masked_fill(left_out, lowest), 1) for logits in (student, teacher)
    )
    divergence = (theirs.exp() * (theirs - ours)).masked_fill(left_out, 0.0)
    return divergence.sum(1) * temperature**2


@register("dkd")
class DKD(Distiller):
    """Teaches the target class and the order of the others, at the student's positive points."""

    config_type = DKDConfig
    card = Card(
        about="classes at positive points, the target and the others apart",
        title="Decoupled Knowledge Distillation",
        venue="CVPR 2022",
        level="head",
        arxiv="2203.08679",
        code="github.com/megvii-research/mdistiller",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: DKDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        return Wiring(Needs(parts=frozenset({"class_logits", "assignment"})), Needs(parts=frozenset({"class_logits"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`logits:<branch>` (B, A, K) per branch."""
        return self.heads.knowledge(teacher, "logits")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`target` and `others`, means over the student's branches."""
        return self.heads.mean(lambda side: self._of_branch(side, batch), student, knowledge)

    def _of_branch(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        positives, heat = side.positives(batch), self.config.temperature
        ours, theirs, target = (
            positives.of(side.ours("logits")),
            positives.of(side.theirs("logits")),
            positives.class_ids,
        )
        return {
            "target": self.config.alpha * positives.mean(target_divergence(ours, theirs, target, heat)),
            "others": self.config.beta * positives.mean(others_divergence(ours, theirs, target, heat, side.known)),
        }
