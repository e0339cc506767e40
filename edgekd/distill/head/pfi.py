"""PFI: features are imitated where predictions differ.

Knowledge Distillation for Object Detection via Rank Mimicking and Prediction-guided Feature Imitation, Li et al., AAAI
2022, arXiv 2112.04840. No official code; a draft in github.com/open-mmlab/mmrazor. Its first half is `rank_mimicking`.

    P = mean over branches and known k of (p_S - p_T)^2    per position, without gradients
    L = mean over levels of mean over n, h, w of P * mean over c of (phi(F_S) - F_T)^2

**Reduction**: means over everything.

Differs from the draft: scores are probabilities, there they are logits (`compare: logits`); P is a constant in the
gradient, or a student could excuse its features by its predictions. Whether the paper lets gradients pass is not
verified. The paper's weight of 1.5 fits neither: beside a YOLO's losses the term is some thousandth with scores, and
most of the total with logits, which differ widely over the background. So the weight is automatic by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import DenseHead, Needs
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points, single_anchors
from edgekd.errors import InputError


class PFIConfig(FeatureConfig):
    """Keys of `pfi`."""

    weight: Weight = Field("auto", description="factor on the mean over levels; the paper's 1.5 fits no YOLO")
    compare: Literal["scores", "logits"] = Field("scores", description="what must differ for features to count")


@fp32_island
def pfi_loss(student: Tensor, teacher: Tensor, difference: Tensor) -> Tensor:
    """Mean of the squared difference of two (N, C, H, W) maps times that of predictions (N, H, W)."""
    distance = F.mse_loss(student, teacher, reduction="none").mean(1)
    return (distance * difference).mean()


@register("pfi")
class PFI(Distiller):
    """Imitates features where the student's scores are not yet the teacher's."""

    config_type = PFIConfig
    card = Card(
        about="feature maps where scores differ",
        title="Rank Mimicking and Prediction-guided Feature Imitation",
        venue="AAAI 2022",
        level="head",
        arxiv="2112.04840",
        gain="RetinaNet R101 to R50 on COCO 37.4 to 39.6 AP, with rank_mimicking (as a baseline of GKD)",
    )
    requires = (dense_heads, shared_points, single_anchors, shared_classes)
    decided_by = frozenset()
    config: PFIConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; a tap needs scores of its own stride."""
        self.heads = Heads(pair)
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True, resize=False)
        assert isinstance(pair.student.head, DenseHead)
        strides = [pair.student.head.strides[level] for level in self.heads.points.student_levels]
        for level in self.levels.pairs:
            if level.student.stride not in strides:
                raise InputError(
                    f"pfi: tap {level.student.path} has stride {level.student.stride}, but both heads have scores at "
                    f"strides {', '.join(map(str, strides))}; choose taps of these strides"
                )
        self.score_level = [strides.index(level.student.stride) for level in self.levels.pairs]
        wiring, scores = self.levels.wiring("class_logits"), Needs(parts=frozenset({"class_logits"}))
        return Wiring(wiring.student | scores, wiring.teacher)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps by key of the tap, and `logits:<branch>` (B, A, K)."""
        return super().knowledge(teacher, batch) | self.heads.knowledge(teacher, "logits")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        sides = self.heads.sides(student, knowledge)
        sizes = sides[0].level_sizes
        difference = torch.stack([self._difference(side) for side in sides]).mean(0)
        per_level = torch.split(difference, [height * width for height, width in sizes], 1)
        losses = [
            pfi_loss(ours, theirs, per_level[level].reshape(-1, *sizes[level]))
            for level, (ours, theirs) in zip(self.score_level, self.levels.maps(student, knowledge), strict=True)
        ]
        return {"feature": torch.stack(losses).mean()}

    def _difference(self, side: Side) -> Tensor:
        """Mean squared difference of the predictions of known classes, (B, A)."""
        ours, theirs = side.ours("logits").detach().float(), side.theirs("logits").float()
        if self.config.compare == "scores":
            ours, theirs = ours.sigmoid(), theirs.sigmoid()
        squared = (ours - theirs).square()
        return squared.mean(-1) if side.known is None else squared[..., side.known].mean(-1)
