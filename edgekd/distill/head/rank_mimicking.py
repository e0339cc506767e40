"""Rank mimicking: which of an object's candidate points the teacher prefers.

Knowledge Distillation for Object Detection via Rank Mimicking and Prediction-guided Feature Imitation, Li et al., AAAI
2022, arXiv 2112.04840. No official code; a draft in github.com/open-mmlab/mmrazor. Its second half is `pfi`.

    q = softmax over the candidates a of object j of z[a, class of j]
    L = mean over objects of sum over a of q_T (log q_T - log q_S)

Candidates are the points that the loss of the student's one-to-many branch makes positive for the object; a second
branch (YOLO26's one-to-one), which has one positive an object and so nothing to rank, ranks the same points.

**Reduction**: sum over an object's candidates, mean over the objects that have any, mean over the student's branches.
An object with one candidate counts as 0. Weight 4 is the paper's.

Differs from the draft: the mean is over the objects of the batch, not over images of means over theirs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import DistillerConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.positives import Positives
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class RankMimickingConfig(DistillerConfig):
    """Keys of `rank_mimicking`."""

    weight: Weight = Field(4.0, description="factor; the paper's is 4")


@fp32_island
def rank_loss(student: Tensor, teacher: Tensor, group: Tensor) -> Tensor:
    """KL of the softmax within each group, averaged over groups.

    Args:
        student, teacher: (P,) logits of the candidates.
        group: (P,) int64, whose candidate each is.
    """
    present, group = torch.unique(group, return_inverse=True)
    ours, theirs = (_log_softmax(logits, group, len(present)) for logits in (student, teacher))
    return (theirs.exp() * (theirs - ours)).sum() / max(len(present), 1)


def _log_softmax(logits: Tensor, group: Tensor, groups: int) -> Tensor:
    """Of (P,) within each group."""
    highest = logits.detach().new_full((groups,), float("-inf")).scatter_reduce(0, group, logits.detach(), "amax")
    shifted = logits - highest[group]
    total = torch.zeros_like(highest).index_add(0, group, shifted.exp())
    return shifted - total.log()[group]


@register("rank_mimicking")
class RankMimicking(Distiller):
    """Teaches which point of an object is the best."""

    config_type = RankMimickingConfig
    card = Card(
        about="the order of an object's candidate points",
        title="Rank Mimicking and Prediction-guided Feature Imitation",
        venue="AAAI 2022",
        level="head",
        arxiv="2112.04840",
        gain="RetinaNet R101 to R50 on COCO 37.4 to 39.6 AP, with pfi (as a baseline of GKD)",
        weight_at="1333x800 px; a mean over objects, so the value does not depend on the size",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: RankMimickingConfig

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
        """`rank`, the mean over the student's branches."""
        candidates: list[Positives] = []

        def of_branch(side: Side) -> dict[str, Tensor]:
            if not candidates:  # of the first branch, which is the one-to-many
                candidates.append(side.positives(batch))
            rows = candidates[0]
            ours, theirs = (
                rows.of(logits).gather(1, rows.class_ids.unsqueeze(1)).squeeze(1)
                for logits in (side.ours("logits"), side.theirs("logits"))
            )
            return {"rank": rank_loss(ours, theirs, rows.box_index)}

        return self.heads.mean(of_branch, student, knowledge)
