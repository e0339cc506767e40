"""ABA (experimental): a box edge may lie anywhere between the ground truth's and the teacher's.

After the adaptive boundary approximation of: Distilling object detectors with efficient logit mimicking and mask-guided
feature imitation, Lu et al., Expert Systems with Applications 245:123079, 2024. Neither its equation nor code was at
hand: the formula below is our own, from a survey's description, and claims no parity.

    edge e of a positive point: e_S, e_T and the ground truth's y, in sides of the ground truth
    d_e = max(0, |e_S - (y + e_T) / 2| - |y - e_T| / 2)
    L = sum over positive a of w_a * trust_a * mean over 4 edges of d_e  /  max(1, sum over positive a of w_a)
    trust_a = sigmoid((IoU(b_T, y) - IoU(b_S, y)) / 0.1), a constant in the gradient

**Reduction**: mean over edges, weighted mean over the points that the student's loss makes positive (w_a: the sum of
the point's class targets), mean over the student's branches. 0 for an edge between the two.

Differs from the paper: see above. Its filtered logits and masked features are left to `logit` and the neck methods.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import LEAST_SIDE_PX, iou
from edgekd.distill.config import DistillerConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class ABAConfig(DistillerConfig):
    """Keys of `aba`."""

    weight: Weight = Field(7.5, description="factor; 7.5 is the gain of YOLO's own box loss")
    softness: float = Field(0.1, gt=0, le=10, description="difference in IoU by which trust moves")


@fp32_island
def interval_loss(student: Tensor, teacher: Tensor, truth: Tensor, softness: float = 0.1) -> Tensor:
    """Mean distance of edges from the interval between truth and teacher, times trust: (P,).

    Args:
        student, teacher, truth: (P, 4) px.
        softness: of the trust.
    """
    sides = (truth[:, 2:] - truth[:, :2]).clamp_min(LEAST_SIDE_PX).repeat(1, 2)
    distance = ((student - (truth + teacher) / 2).abs() - (truth - teacher).abs() / 2).clamp_min(0) / sides
    trust = ((iou(teacher, truth) - iou(student, truth)) / softness).sigmoid()
    return distance.mean(-1) * trust


@register("aba")
class ABA(Distiller):
    """Pulls edges into the interval between ground truth and teacher."""

    config_type = ABAConfig
    card = Card(
        about="experimental: box edges between ground truth and teacher",
        title="Distilling object detectors with efficient logit mimicking and mask-guided feature imitation",
        venue="Expert Systems with Applications 2024",
        level="head",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: ABAConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        boxes = Needs(parts=frozenset({"boxes"}))
        return Wiring(boxes | Needs(parts=frozenset({"assignment"})), boxes)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """`boxes_px:<branch>` (B, A, 4) per branch."""
        return self.heads.knowledge(teacher, "boxes_px")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`box`, the mean over the student's branches."""
        return self.heads.mean(lambda side: self._of_branch(side, batch), student, knowledge)

    def _of_branch(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        rows = side.positives(batch)
        ours, theirs = rows.of(side.ours("boxes_px")), rows.of(side.theirs("boxes_px"))
        return {"box": rows.mean(interval_loss(ours, theirs, rows.boxes_px, self.config.softness))}
