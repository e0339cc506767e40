"""GID: general instances, where student and teacher disagree most.

General Instance Distillation for Object Detection, Dai et al., CVPR 2021, arXiv 2103.02340.
Code: github.com/daixinghome/Distill_GID_detectron2 (an author's new implementation; its README gives no AP).

    s_a = max over known k of |p_T[a, k] - p_S[a, k]|;  box of a: of the model with the higher top score there
    general instances: the 10 boxes of an image with the highest s_a after NMS at IoU 0.3
    L_feature = 1 / (n h w) * sum over n, c, h, w of (u - v)^2      u, v: RoIAlign of F_T and of phi(F_S), phi: 3x3
    L_relation = 1 / (n^2 - n) * sum over i, j of smooth L1 of (d_T - d_S),   d_ij = ||x_i - x_j|| / mean of d
    L_class = 1 / P * sum over points of L_r, k of BCE(z_S, p_T)
    L_box = 1 / P * sum over points of |b_S - b_T| / size of b_T
    L = 5e-4 L_feature + 40 L_relation + 0.1 L_class + 1.0 L_box

**Reduction**: L_feature is a sum over channels and a mean over n, h, w; L_relation a mean over pairs of the batch, 0
below three instances; L_class a sum over classes, L_box one over the four edges, both a mean over the P points; their
mean over the student's branches.

Differs from the official code: an adapter per level, as widths differ, and it is applied (there it is made and not
called); L_class and L_box act at points where the box of either model overlaps an instance by 0.5, which stands for the
anchors that do; edges are compared in units of the teacher's box, for differences of anchors' deltas; `min_side_px` is
that of images of 800 px, and smaller boxes are no instances.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.regions import Regions, iou, strongest
from edgekd.detectors.spec import Needs
from edgekd.distill.adapters import LevelPair, Levels, match_branches
from edgekd.distill.config import Weight
from edgekd.distill.contract import Card, Distiller, Moment, Pair, Wiring, register
from edgekd.distill.points import SharedPoints
from edgekd.distill.region.gid_losses import gid_box_loss, gid_class_loss, gid_feature_loss, gid_relation_loss
from edgekd.distill.region.shared import CutConfig, cut_of
from edgekd.distill.requirements import dense_heads, shared_classes, shared_points

_BEFORE_NMS = 3000  # per image
_OVERLAP = 0.5  # of a point's box with an instance, for the responses


class GIDConfig(CutConfig):
    """Keys of `gid`."""

    weight: Weight = Field(1.0, description="factor on the four terms, each of which has its own")
    instances: int = Field(10, ge=1, le=100, description="per image, at most")
    nms_iou: float = Field(0.3, gt=0, le=1, description="above it the weaker of two instances is left out")
    min_side_px: float = Field(10.0, ge=1, description="sides of an instance, at least")
    size: int = Field(10, ge=1, le=28, description="cells of a region per side")
    feature: float = Field(5e-4, ge=0, description="factor on L_feature")
    relation: float = Field(40.0, ge=0, description="factor on L_relation")
    response_class: float = Field(0.1, ge=0, description="factor on L_class")
    response_box: float = Field(1.0, ge=0, description="factor on L_box")


@register("gid")
class GID(Distiller):
    """Teaches features, relations and responses where the two disagree, whether or not the labels have an object."""

    config_type = GIDConfig
    card = Card(
        about="features, relations and predictions where the two models disagree",
        title="General Instance Distillation for Object Detection",
        venue="CVPR 2021",
        level="region",
        arxiv="2103.02340",
        code="github.com/daixinghome/Distill_GID_detectron2",
        gain="RetinaNet R101 to R50 on COCO 36.3 to 39.1 AP, Faster R-CNN 37.4 to 39.5, FCOS 37.1 to 39.7",
        weight_at="800 px, RetinaNet with 256 channels; L_feature grows with the number of channels",
    )
    requires = (dense_heads, shared_points, shared_classes)
    decided_by = frozenset()
    config: GIDConfig
    levels: Levels
    known: Tensor | None

    def build(self, pair: Pair) -> Wiring:
        """See `Distiller.build`."""
        self.levels = Levels.of(pair, self.config, self.name, "conv3x3", resize=False)
        self.cut = cut_of([level.teacher for level in self.levels.pairs], self.config)
        self.branches = match_branches(pair.student, pair.teacher)
        self.points = SharedPoints.of_pair(pair)
        known = None if all(pair.known) else torch.tensor(pair.known)
        self.register_buffer("known", known, persistent=False)
        own = self.levels.wiring("class_logits", "boxes")
        return Wiring(own.student | Needs(parts=frozenset({"class_logits", "boxes"})), own.teacher)

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        """The maps by key of the tap; `logits:<branch>` (B, A, K) and `boxes:<branch>` (B, A, 4) of shared points."""
        kept = super().knowledge(teacher, batch)
        for _, source in self.branches:
            dense = teacher.dense[source]
            kept[f"logits:{source}"] = self.points.of_teacher(dense.class_logits, dense)
            kept[f"boxes:{source}"] = self.points.of_teacher(dense.boxes_px, dense)
        return kept

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        """`feature`, `relation`, `class` and `box`, each with its own factor."""
        sides = {branch: self._sides(student, knowledge, branch, source) for branch, source in self.branches}
        instances = self._instances(*next(iter(sides.values())), batch.images)
        maps = [adapter(student.taps[pair.student.key]) for pair, adapter in self._levels()]
        ours = self.cut.of(maps, instances)
        theirs = self.cut.of([knowledge[pair.teacher.key] for pair, _ in self._levels()], instances)
        responses = [self._responses(*found, instances) for found in sides.values()]
        classes, boxes = (torch.stack(values).mean() for values in zip(*responses, strict=True))
        config = self.config
        return {
            "feature": config.feature * gid_feature_loss(ours, theirs),
            "relation": config.relation * gid_relation_loss(ours, theirs),
            "class": config.response_class * classes,
            "box": config.response_box * boxes,
        }

    def _levels(self) -> list[tuple[LevelPair, nn.Module]]:
        return list(zip(self.levels.pairs, self.levels.adapters, strict=True))

    def _sides(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], branch: str, source: str
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits and boxes at the shared points: the student's, then the teacher's."""
        dense = student.dense[branch]
        logits = self.points.of_student(dense.class_logits, dense)
        boxes = self.points.of_student(dense.boxes_px, dense)
        return logits, boxes, knowledge[f"logits:{source}"], knowledge[f"boxes:{source}"]

    @torch.no_grad()
    def _instances(
        self, logits: Tensor, boxes: Tensor, teacher_logits: Tensor, teacher_boxes: Tensor, images: Tensor
    ) -> Regions:
        """The regions of strongest disagreement, with the box of the model that is surer there."""
        ours, theirs = logits.float().sigmoid(), teacher_logits.float().sigmoid()
        if self.known is not None:
            ours, theirs = ours * self.known, theirs * self.known
        disagreement = (theirs - ours).abs().amax(-1)
        surer = (theirs.amax(-1) > ours.amax(-1)).unsqueeze(-1)
        config = self.config
        found, _ = strongest(
            torch.where(surer, teacher_boxes.float(), boxes.float()), disagreement, images, limit=config.instances,
            nms_iou=config.nms_iou, min_side_px=config.min_side_px, before_nms=_BEFORE_NMS,
        )  # fmt: skip
        return found

    def _responses(
        self, logits: Tensor, boxes: Tensor, teacher_logits: Tensor, teacher_boxes: Tensor, instances: Regions
    ) -> tuple[Tensor, Tensor]:
        """L_class and L_box at the points whose boxes overlap an instance."""
        chosen = _touching(boxes.detach(), instances) | _touching(teacher_boxes, instances)
        return (
            gid_class_loss(logits[chosen], teacher_logits[chosen], self.known),
            gid_box_loss(boxes[chosen], teacher_boxes[chosen]),
        )


def _touching(boxes: Tensor, instances: Regions) -> Tensor:
    """(B, A) bool: the box (B, A, 4) overlaps an instance of its image enough."""
    found = iou(boxes.float().unsqueeze(2), instances.boxes_px.unsqueeze(1)) >= _OVERLAP  # (B, A, R)
    return (found & instances.valid.unsqueeze(1)).any(-1)
