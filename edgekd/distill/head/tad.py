"""TAD: features under bells over the objects, classes, boxes that the teacher has better, all fading out.

Distilling Object Detectors with Task Adaptive Regularization, Sun et al., 2020, arXiv 2006.13108. No official code.

    M = highest over objects of exp(-0.5 [((x - cx) / (sigma w))^2 + ((y - cy) / (sigma h))^2]), 0 outside of boxes
    L_feature = mean over levels of sum over n, h, w of M * mean over c of (phi(F_S) - F_T)^2 / (2 max(1, sum of M))
    L_class = sum over positive a of w_a * sum over known k of KL(p_T || p_S) / max(1, sum over positive a of w_a)
    L_box = the same mean of 1 - GIoU(b_S, b_T), 0 where the teacher's box overlaps the ground truth no better

**Reduction**: weighted means over positions and over the points that the student's loss makes positive (w_a: the sum of
the point's class targets), mean over channels and levels, sum over classes; heads are means over the student's
branches. All fade out linearly, the paper's decay, as the default schedule says.

Differs from the paper, of which a second-hand account was read (there is no official code): its samples are the
proposals of a two-stage detector, here the student's positive points; a box teaches where it is better than the
student's, there than the proposal. Channels are averaged. sigma and the parts' weights are not known: ours are a half,
the gains of YOLO's own losses, and for features a factor that lets them weigh about as much.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import Levels, fp32_island
from edgekd.distill.boxes import box_loss, iou
from edgekd.distill.config import FeatureConfig, Schedule
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.heads import Heads, Side
from edgekd.distill.masks import cell_centres, gaussian_masks, taught
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points


class TADConfig(FeatureConfig):
    """Keys of `tad`."""

    feature_weight: float = Field(4.0, ge=0, description="factor on features under the bells")
    class_weight: float = Field(0.5, ge=0, description="factor on classes; 0.5 is the gain of YOLO's own class loss")
    box_weight: float = Field(7.5, ge=0, description="factor on boxes; 7.5 is the gain of YOLO's own box loss")
    sigma: float = Field(0.5, gt=0, le=10, description="of the bells, in sides of the box")
    schedule: Schedule = Field(Schedule(decay="linear", final=0.0), description="of the weight; it fades out")


@fp32_island
def bell_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Half the mean squared difference of two (N, C, H, W) maps, positions weighted by (N, H, W)."""
    distance = F.mse_loss(student, teacher, reduction="none").mean(1)
    return (distance * mask).sum() / (2 * mask.sum().clamp_min(1.0))


@fp32_island
def class_divergence(student: Tensor, teacher: Tensor, known: Tensor | None = None) -> Tensor:
    """KL of class probabilities, summed over known classes: (P,) of (P, K) logits."""
    target = teacher.sigmoid()
    yes = target * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (1 - target) * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return (yes + no if known is None else (yes + no) * known).sum(-1)


@fp32_island
def better_box_loss(student: Tensor, teacher: Tensor, truth: Tensor) -> Tensor:
    """1 - GIoU with the teacher's boxes where those overlap the truth more than the student's: (P,) of (P, 4) px."""
    return box_loss(student, teacher) * (iou(teacher, truth) > iou(student, truth))


@register("tad")
class TAD(Distiller):
    """Teaches features around objects, their classes, and boxes that are better than the student's."""

    config_type = TADConfig
    card = Card(
        about="features under bells over objects, classes, better boxes; fades out",
        title="Distilling Object Detectors with Task Adaptive Regularization",
        venue="arXiv 2020",
        level="head",
        arxiv="2006.13108",
        gain="Faster R-CNN R101 to R50 on COCO 36.3 to 39.0 AP, RetinaNet 35.6 to 37.9 (a survey's table)",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: TADConfig

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.heads = Heads(pair)
        self.levels = Levels.of(pair, self.config, self.name, "conv1x1", only_if_needed=True)
        parts = Needs(parts=frozenset({"class_logits", "boxes"}))
        wiring = self.levels.wiring(*parts.parts)
        return Wiring(wiring.student | parts | Needs(parts=frozenset({"assignment"})), wiring.teacher)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The teacher's maps by key of the tap; per branch `logits:` (B, A, K) and `boxes_px:` (B, A, 4)."""
        return super().knowledge(teacher, batch) | self.heads.knowledge(teacher, "logits", "boxes_px")

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`, `class` and `box`."""
        objects = taught(batch, self.heads.known)
        losses = []
        for pair, (ours, theirs) in zip(self.levels.pairs, self.levels.maps(student, knowledge), strict=True):
            centres = cell_centres(theirs, pair.teacher.stride)
            mask = gaussian_masks(centres, objects, self.config.sigma).reshape(-1, *theirs.shape[-2:])
            losses.append(bell_loss(ours, theirs, mask))
        feature = self.config.feature_weight * torch.stack(losses).mean()
        return {"feature": feature, **self.heads.mean(lambda side: self._of_branch(side, batch), student, knowledge)}

    def _of_branch(self, side: Side, batch: Batch) -> dict[str, Tensor]:
        rows, config = side.positives(batch), self.config
        classes = class_divergence(rows.of(side.ours("logits")), rows.of(side.theirs("logits")), side.known)
        boxes = better_box_loss(rows.of(side.ours("boxes_px")), rows.of(side.theirs("boxes_px")), rows.boxes_px)
        return {"class": config.class_weight * rows.mean(classes), "box": config.box_weight * rows.mean(boxes)}
