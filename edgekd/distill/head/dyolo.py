"""D-YOLO: scores and boxes of a YOLO, scaled by the teacher's confidence after NMS on its maps.

Object Detection at 200 Frames Per Second, Mehta & Ozturk, ECCV workshops 2018, arXiv 1805.06361. No official code.

    o_a = max over known k of p_T[a, k]; 0 where a neighbour (3 x 3 cells, same level, same best class) has more
    L_class = sum over a of o_a * sum over known k of BCE(z_S[a, k], p_T[a, k])  /  max(1, sum over a of o_a)
    L_box = sum over a of o_a * (1 - CIoU(b_S, b_T))  /  max(1, sum over a of o_a)

No ground truth is read, so images without labels serve as well.

**Reduction**: sum over classes, weighted mean over the points of the batch, means over the student's branches. With
soft targets the class term at identity is the targets' entropy, its gradient 0.

Differs from the paper (there is no official code; read in notes and in a port): these heads have no objectness, the
best class score takes its place, and so the term on objectness itself is left out; terms are divided by the sum of o.
The paper's factor lambda is not known: 1, times the gains of YOLO's own losses (0.5 for classes, 7.5 for boxes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from edgekd.distill.head.logit import logit_loss
from edgekd.distill.heads import Heads, Side, by_confidence
from edgekd.distill.packing import Points
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points, single_anchors


class DYOLOConfig(DistillerConfig):
    """Keys of `dyolo`."""

    class_weight: float = Field(0.5, ge=0, description="factor on classes; 0.5 is the gain of YOLO's own class loss")
    box_weight: float = Field(7.5, ge=0, description="factor on boxes; 7.5 is the gain of YOLO's own box loss")
    nms: bool = Field(True, description="only the most confident of neighbouring cells of a class teach")


@fp32_island
def map_nms(logits: Tensor, confidence: Tensor, level_sizes: Sequence[tuple[int, int]]) -> Tensor:
    """The confidence of points that no neighbour of their class exceeds; 0 elsewhere: (B, A).

    Args:
        logits: (B, A, K), of classes that count.
        confidence: (B, A).
        level_sizes: (H, W) per level; their products sum to A.
    """
    own_class = F.one_hot(logits.argmax(-1), logits.shape[-1])
    by_class = (own_class * confidence.unsqueeze(-1)).transpose(1, 2)  # (B, K, A), the score in its class alone
    highest = [
        F.max_pool2d(part.reshape(*part.shape[:2], *size), 3, stride=1, padding=1).flatten(2)
        for part, size in zip(torch.split(by_class, [h * w for h, w in level_sizes], 2), level_sizes, strict=True)
    ]
    around = (torch.cat(highest, 2).transpose(1, 2) * own_class).sum(-1)
    return confidence * (confidence >= around)


@fp32_island
def scaled_box_loss(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """1 - CIoU of (B, A, 4) boxes in px, weighted mean by (B, A)."""
    rows = weight.nonzero(as_tuple=True)
    loss = box_loss(student[rows], teacher[rows], "ciou")
    return (loss * weight[rows]).sum() / weight.sum().clamp_min(1.0)


@register("dyolo")
class DYOLO(Distiller):
    """Teaches scores and boxes where the teacher is confident, one point an object and class."""

    config_type = DYOLOConfig
    card = Card(
        about="scores and boxes at the teacher's confident points, after NMS on its maps",
        title="Object Detection at 200 Frames Per Second",
        venue="ECCV workshops 2018",
        level="head",
        arxiv="1805.06361",
        gain="YOLOv3 R34 to MobileNetV1 on COCO 29.3 to 31.4 AP, on VOC 76.2 to 79.0 (PaddleDetection's port)",
    )
    requires = (dense_heads, shared_points, single_anchors, shared_classes)
    decided_by = frozenset()
    config: DYOLOConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        parts = Needs(parts=frozenset({"class_logits", "boxes"}))
        return Wiring(parts, parts)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """Per teacher branch: `logits:` (B, A, K), `confidence:` (B, A) and `boxes_px:` (B, A, 4)."""
        return self.heads.knowledge(teacher, "logits", "confidence", "boxes_px")

    def stored(self, key: str) -> Points | None:
        """Where the teacher is sure: the terms weigh points by that, and nobody less sure takes a point's weight."""
        return by_confidence(key)

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`class` and `box`, means over the student's branches."""
        return self.heads.mean(self._of_branch, student, knowledge)

    def _of_branch(self, side: Side) -> dict[str, Tensor]:
        config, weight, logits = self.config, side.theirs("confidence"), side.theirs("logits")
        if config.nms:
            counted = logits if side.known is None else logits[..., side.known]
            weight = map_nms(counted, weight, side.level_sizes)
        classes = logit_loss(side.ours("logits"), logits, weight, side.known)
        boxes = scaled_box_loss(side.ours("boxes_px"), side.theirs("boxes_px"), weight)
        return {"class": config.class_weight * classes, "box": config.box_weight * boxes}
