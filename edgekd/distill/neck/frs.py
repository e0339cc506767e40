"""FRS: feature richness score, the teacher's scores as weights of features and of classes.

Distilling Object Detectors with Feature Richness, Du et al., NeurIPS 2021, arXiv 2111.00674.
Code: github.com/duzhixing/FRS.

    s = max over known k of sigmoid(z_T)   per position
    L = sum over levels of   feature * [sum over n, c, h, w of s (phi(F_S) - F_T)^2] / [sum over n, h, w of s]
                           + class * [sum over n, h, w, known k of s BCE(z_S, p_T)] / [sum over n, h, w of s]

**Reduction**: sum over channels or classes, weighted mean over the positions of a level and batch (weights sum to
one), sum over levels. The feature term grows with the teacher's width; the class term, at p_S = p_T, is the targets'
entropy and not 0, its gradient is 0.

Differs from the official code: the adapter is a 1x1 convolution by default, since the published 3x3 one costs as much
as half a small student (`adapter: conv3x3` has it); the score looks only at classes of the data set; levels without
scores have no class term; sum of s + 1e-9 is the denominator's guard. The linear warm-up over 500 steps is
`schedule`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DensePredictions, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import Levels, fp32_island, match_branches
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.masks import confidence
from edgekd.distill.points import SharedPoints
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points
from edgekd.distill.score_maps import ScoreMaps


class FRSConfig(FeatureConfig):
    """Keys of `frs`. The factors are those that the authors published for FCOS."""

    weight: Weight = Field(1.0, description="factor on both terms")
    feature: float = Field(0.01, ge=0, description="of the feature term: 0.1 GFL, 0.005 RetinaNet")
    classes: float = Field(0.05, ge=0, description="of the class term: 0.05 GFL, 0.02 RetinaNet")
    adapter: Literal["conv1x1", "conv3x3"] = Field("conv1x1", description="conv3x3 is the published one")


@fp32_island
def frs_feature_loss(student: Tensor, teacher: Tensor, score: Tensor) -> Tensor:
    """Squared difference of two (N, C, H, W) maps, summed over channels, positions weighted by `score` (N, H, W)."""
    distance = (student - teacher).square().sum(1)
    return (distance * score).sum() / (score.sum() + 1e-9)


@fp32_island
def frs_class_loss(student: Tensor, teacher: Tensor, score: Tensor, known: Tensor | None = None) -> Tensor:
    """BCE with the teacher's probabilities, summed over classes, points weighted by `score`.

    Args:
        student, teacher: (N, P, K) logits.
        score: (N, P).
        known: (K,) bool, classes that the teacher knows; None: all.
    """
    factor = score.unsqueeze(-1) if known is None else score.unsqueeze(-1) * known
    loss = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), weight=factor, reduction="sum")
    return loss / (score.sum() + 1e-9)


@register("frs")
class FRS(Distiller):
    """Imitates features and classes wherever the teacher sees something, labelled or not."""

    config_type = FRSConfig
    card = Card(
        about="feature maps and class scores where the teacher sees objects",
        title="Distilling Object Detectors with Feature Richness",
        venue="NeurIPS 2021",
        level="neck",
        arxiv="2111.00674",
        code="github.com/duzhixing/FRS",
        gain="GFL R101 to R50 on COCO 40.2 to 43.6 AP, RetinaNet 37.4 to 39.7, FCOS 38.5 to 40.9",
        weight_at="1333x800 px (FCOS), five levels of 256 channels; grows with the channels, not with the size",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: FRSConfig
    levels: Levels
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; a teacher's tap needs scores of its own stride."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter, resize=False)
        self.scores = ScoreMaps.of(pair, self.levels.pairs, self.name)
        self.branches = match_branches(pair.student, pair.teacher)
        self.points = SharedPoints.of_pair(pair)
        known = None if all(pair.known) else torch.tensor(pair.known)
        self.register_buffer("known", known, persistent=False)
        wiring = self.levels.wiring("class_logits")
        return Wiring(wiring.student | Needs(parts=frozenset({"class_logits"})), wiring.teacher)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps, their scores, and per branch `logits:` (B, A, K) and `confidence:` (B, A) by its name."""
        kept = super().knowledge(teacher, batch) | self.scores.knowledge(teacher)
        for source in {source for _, source in self.branches}:
            predictions = teacher.dense[source]
            kept[f"logits:{source}"] = self.points.of_teacher(predictions.class_logits, predictions)
            kept[f"confidence:{source}"] = self.points.of_teacher(confidence(predictions), predictions)
        return kept

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`, and `class`, the mean over the student's branches; by their factors."""
        features = [
            frs_feature_loss(ours, theirs, self.scores.read(knowledge, pair))
            for pair, (ours, theirs) in zip(self.levels.pairs, self.levels.maps(student, knowledge), strict=True)
        ]
        classes = [self._class_loss(student.dense[branch], source, knowledge) for branch, source in self.branches]
        return {
            "feature": torch.stack(features).sum() * self.config.feature,
            "class": torch.stack(classes).mean() * self.config.classes,
        }

    def _class_loss(self, ours: DensePredictions, source: str, knowledge: Mapping[str, Tensor]) -> Tensor:
        logits = self.points.of_student(ours.class_logits, ours)
        theirs, score = knowledge[f"logits:{source}"], knowledge[f"confidence:{source}"]
        sizes = self.points.sizes_of_student(ours)
        levels = zip(*(torch.split(values, sizes, dim=1) for values in (logits, theirs, score)), strict=True)
        return torch.stack([frs_class_loss(z, z_t, s, self.known) for z, z_t, s in levels]).sum()
