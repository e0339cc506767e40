"""LD: localization distillation of box distributions.

Localization Distillation for Dense Object Detection, Zheng et al., CVPR 2022, arXiv 2102.12252.
Code: github.com/HikariTJU/LD.

    KD(edge) = T^2 * sum over bins of q_T (log q_T - log q_S),   q = softmax(r / T)
    w_a = max over known k of sigmoid(z_T[a, k])
    L = sum over a in region of w_a * mean over 4 edges of KD / max(1, sum over a in region of w_a)
    optionally + valuable * the same over the valuable localization region (distill/valuable.py), w_a its anchor's IoU

**Reduction**: sum over bins, mean over edges, weighted mean over the points of a region, mean over the student's
branches.

Differs from the official code: there bins are averaged (1 / (n + 1)), the region is what the student's assigner makes
positive, the weight is the student's confidence and the sum is not divided, so the term grows with the batch. Here the
main region is where the teacher is confident, which needs no assigner, optionally only inside ground-truth boxes. With
this normalisation T = 10 and weight 0.25 would not mean what they mean there (T^2 = 100); the defaults are T = 1, as in
CrossKD's variant, and weight 1. The valuable region is the official one, for pseudo anchors where a head has none;
there its sum is divided by 16 where the main one is divided by 4, so the factor to compare with is 0.25. It is not
weighted by confidence: objects of classes that the teacher does not know are left out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import fp32_island
from edgekd.distill.config import DistillerConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side, by_confidence
from edgekd.distill.masks import inside_boxes, taught
from edgekd.distill.packing import Points
from edgekd.distill.requirements import box_distributions, dense_heads, shared_classes, shared_points, single_anchors
from edgekd.distill.valuable import valuable_region
from edgekd.errors import InputError


class LDConfig(DistillerConfig):
    """Keys of `ld`."""

    weight: Weight = Field(1.0, description="factor; 1..4 at temperature 1, 0.05..0.5 at 10")
    temperature: float = Field(1.0, gt=0, le=100, description="of the box distributions")
    region: Literal["confidence", "foreground"] = Field(
        "confidence", description="where the teacher is confident, or only there inside ground-truth boxes"
    )
    min_confidence: float = Field(0.05, ge=0, lt=1, description="points below it are left out")
    valuable: float = Field(
        0.0, ge=0, le=10, description="factor on the valuable localization region, beside the main one; 0: left out"
    )


@fp32_island
def ld_loss(student: Tensor, teacher: Tensor, weight: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted mean of the KL divergence between box distributions.

    Args:
        student, teacher: (P, 4, bins) logits of the chosen points.
        weight: (P,), the teacher's confidence.
        temperature: softens both sides.
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1).mean(-1)  # (P,)
    return (divergence * weight).sum() * temperature**2 / weight.sum().clamp_min(1.0)


@register("ld")
class LD(Distiller):
    """Teaches where box edges lie and how sure that is."""

    config_type = LDConfig
    card = Card(
        about="box distributions",
        title="Localization Distillation for Dense Object Detection",
        venue="CVPR 2022",
        level="head",
        arxiv="2102.12252",
        code="github.com/HikariTJU/LD",
        gain="GFL R101 to R50 on COCO 40.1 to 41.1 AP, R18 35.8 to 36.5 (main region alone)",
    )
    requires = (dense_heads, box_distributions, shared_points, shared_classes)
    decided_by = frozenset()
    switches = frozenset({"valuable"})  # where it acts, all points are kept
    config: LDConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        reason = single_anchors(pair)
        if self.config.valuable > 0 and reason is not None:
            raise InputError(f"ld: valuable {reason}; leave it out")
        return Wiring(Needs(parts=frozenset({"boxes"})), Needs(parts=frozenset({"class_logits", "boxes"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `box_logits:<branch>` (B, A, 4, bins) and `confidence:<branch>` (B, A)."""
        return self.heads.knowledge(teacher, "box_logits", "confidence")

    def stored(self, key: str) -> Points | None:
        """Where the teacher is sure: the main term weighs points by that, the valuable region lies elsewhere, too."""
        return None if self.config.valuable > 0 else by_confidence(key)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`box`, and `valuable` if that region has a weight; means over the student's branches."""
        return self.heads.mean(lambda side: self._of_branch(side, batch), student, knowledge)

    def _of_branch(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        weight = side.theirs("confidence")
        chosen = weight >= self.config.min_confidence
        if self.config.region == "foreground":
            chosen &= inside_boxes(side.points_px, batch)
        found = {"box": self._at(chosen, weight, side)}
        if self.config.valuable > 0:
            region = valuable_region(side.points_px, side.strides, side.level_sizes, taught(batch, side.known))
            found["valuable"] = self.config.valuable * self._at(region > 0, region, side)
        return found

    def _at(self, chosen: Tensor, weight: Tensor, side: Side) -> Tensor:
        rows = chosen.nonzero(as_tuple=True)
        ours, theirs = side.ours("box_logits")[rows], side.theirs("box_logits")[rows]
        return ld_loss(ours, theirs, weight[rows], self.config.temperature)
