"""Score-weighted L2 on feature maps: what Ultralytics ships as `distill_model`.

No paper; github.com/ultralytics/ultralytics, pull request 24894 (2026), `nn/distill_model.py`.

    s = max over known classes of sigmoid(mean over branches of z_T)          per position
    L = sum over levels of [ sum over n, c, h, w of s (phi(F_S) - F_T)^2 ] / [ C * sum over n, h, w of s ]
    phi: 1x1 convolution, ReLU, 1x1 convolution

**Reduction**: mean over channels, weighted mean over n, h, w (weights sum to one), sum over levels. `weight` is the
engine's `dis`; like there, the framework's loss scale multiplies by the batch size.

Differs from the official code: the score looks only at classes of the data set; the teacher's box towers and decoding
are not run; levels are paired by stride, so other taps than the head's inputs can be named; sum s + 1e-9 is the
denominator's guard, there it is C sum s + 1e-9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.config import FeatureConfig, Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.requirements import dense_teacher, shared_classes
from edgekd.distill.score_maps import ScoreMaps


class ScoreL2Config(FeatureConfig):
    """Keys of `score_l2`."""

    weight: Weight = Field(6.0, description="factor on the sum over levels; Ultralytics' 'dis'")
    adapter: Literal["mlp", "conv1x1"] = Field("mlp", description="of the student's maps")


@fp32_island
def score_l2_loss(student: Tensor, teacher: Tensor, score: Tensor) -> Tensor:
    """Mean squared difference of two (N, C, H, W) maps, positions weighted by `score` (N, H, W)."""
    distance = F.mse_loss(student, teacher, reduction="none").mean(1)  # (N, H, W)
    return (distance * score).sum() / (score.sum() + 1e-9)


@register("score_l2")
class ScoreL2(Distiller):
    """Imitates features where the teacher sees objects."""

    config_type = ScoreL2Config
    requires = (dense_teacher, shared_classes)
    card = Card(
        about="feature maps where the teacher sees objects",
        title="Ultralytics' distill_model",
        venue="Ultralytics, 2026",
        level="neck",
        code="github.com/ultralytics/ultralytics, pull request 24894",
        gain="YOLO26n on COCO 40.9 to 41.5 AP, s 48.6 to 49.2, m 53.1 to 53.9 (Ultralytics' documentation)",
        weight_at="640 px; a mean, so the value does not depend on the size",
    )
    decided_by = frozenset()
    config: ScoreL2Config
    levels: Levels

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`; a teacher's tap needs scores of its own stride."""
        self.levels = Levels.of(pair, self.config, self.name, self.config.adapter, resize=False)
        self.scores = ScoreMaps.of(pair, self.levels.pairs, self.name)
        return self.levels.wiring("class_logits")

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps by key of the tap, and `score:<key>` (N, H, W) for each."""
        return super().knowledge(teacher, batch) | self.scores.knowledge(teacher)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`."""
        losses = [
            score_l2_loss(ours, theirs, self.scores.read(knowledge, pair))
            for pair, (ours, theirs) in zip(self.levels.pairs, self.levels.maps(student, knowledge), strict=True)
        ]
        return {"feature": torch.stack(losses).sum()}
