"""LAD: the teacher decides which points are positive.

Improving Object Detection by Label Assignment Distillation, Nguyen et al., WACV 2022, arXiv 2108.10520.
Code: github.com/cybercore-co-ltd/CoLAD.

    assignment = the student's own assigner, given p_T and b_T in place of p_S and b_S
    L = the student's own loss under this assignment

There is no term of its own, so neither a weight nor a reduction: what changes is the detection loss. The soft targets
of an assigner that makes any (TAL's alignment) come from the teacher, too. A schedule's `until_epoch` hands the
decision back to the student.

Differs from the official code: that is for PAA (candidates by score, a mixture of two Gaussians on the losses); here
the student's own assigner decides, whatever it is. The co-training of two networks (CoLAD) is not offered.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import field_validator
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput, Guidance
from edgekd.detectors.spec import Needs
from edgekd.distill.config import DistillerConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads
from edgekd.distill.requirements import all_classes_known, all_points_shared, dense_heads, shared_classes


class LADConfig(DistillerConfig):
    """Keys of `lad`."""

    @field_validator("weight")
    @classmethod
    def _nothing_to_weight(cls, given: Weight) -> Weight:
        if given not in (1.0, "auto"):
            raise ValueError("there is no loss term to weight; leave weight out")
        return given


def assigned_by_teacher(heads: Heads, knowledge: Mapping[str, Tensor]) -> Guidance:
    """The teacher's scores and boxes (knowledge `logits:` and `boxes_px:`) for the assigner of every branch."""
    return Guidance({
        branch: (knowledge[f"logits:{source}"].sigmoid(), knowledge[f"boxes_px:{source}"])
        for branch, source in heads.branches
    })  # fmt: skip


@register("lad")
class LAD(Distiller):
    """Teaches nothing itself: the student's loss takes the points that suit the teacher."""

    config_type = LADConfig
    card = Card(
        about="which points are positive; no loss term",
        title="Improving Object Detection by Label Assignment Distillation",
        venue="WACV 2022",
        level="head",
        arxiv="2108.10520",
        code="github.com/cybercore-co-ltd/CoLAD",
        gain="PAA R101 to R50 on COCO 40.4 to 41.6 AP (1x); R50 to R101 42.6 to 43.3",
    )
    requires = (dense_heads, all_points_shared, shared_classes, all_classes_known)
    guides = True
    decided_by = frozenset()
    config: LADConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        return Wiring(teacher=Needs(parts=frozenset({"class_logits", "boxes"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `logits:` (B, A, K) and `boxes_px:` (B, A, 4), at all points of the student."""
        return self.heads.knowledge(teacher, "logits", "boxes_px")

    def guidance(self, knowledge: Mapping[str, Tensor], batch: Batch) -> Guidance:
        """See `Distiller.guidance`."""
        return assigned_by_teacher(self.heads, knowledge)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """None."""
        return {}
