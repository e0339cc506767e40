"""RTMDet's two losses, as mmdetection 3.3.0 defines them: quality focal loss and GIoU, each over a whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd import ranks
from edgekd.detectors.outputs import Assignment, Batch
from edgekd.detectors.rtmdet.assigner import assign

CLASS_WEIGHT, BOX_WEIGHT = 1.0, 2.0
BETA = 2.0
_LEAST_AREA = 1e-6


def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = BETA) -> Tensor:
    """|target - score| ^ beta times the cross-entropy (arXiv 2006.04388), not reduced.

    Args:
        logits, targets: of one shape; a target is the IoU at the class of the ground truth, else 0.
    """
    distance = (targets - logits.sigmoid()).abs()
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * distance.pow(beta)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU (arXiv 1902.09630) of boxes (N, 4) px with theirs, not reduced (N,).

    Computed in float32: in float16 areas from 256 x 256 px on are infinite.
    """
    boxes, targets = boxes.float(), targets.float()
    shared = _area(torch.maximum(boxes[:, :2], targets[:, :2]), torch.minimum(boxes[:, 2:], targets[:, 2:]))
    whole = _area(torch.minimum(boxes[:, :2], targets[:, :2]), torch.maximum(boxes[:, 2:], targets[:, 2:]))
    sizes, target_sizes = boxes[:, 2:] - boxes[:, :2], targets[:, 2:] - targets[:, :2]
    union = (sizes.prod(1) + target_sizes.prod(1) - shared).clamp_min(_LEAST_AREA)
    whole = whole.clamp_min(_LEAST_AREA)
    return 1 - shared / union + (whole - union) / whole


@dataclass(frozen=True)
class Losses:
    """Of one batch.

    Attributes:
        classes, boxes: weighted, over the sum of the qualities of all positives.
        assignment: which decided.
    """

    classes: Tensor
    boxes: Tensor
    assignment: Assignment


def detection_loss(
    logits: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    batch: Batch,
    assign_by: tuple[Tensor, Tensor] | None = None,
    together: bool = False,
) -> Losses:
    """Assign, and compare. Images that have no labels (`View.labelled`) take no part.

    Args:
        logits: (B, A, K).
        boxes: (B, A, 4) px.
        points: (A, 2) px.
        strides: (A,).
        assign_by: scores (B, A, K) in 0..1 and boxes (B, A, 4) px by which to assign, and of whose boxes the IoU is
            the target; None: the student's own.
        together: divide by what all ranks have, as every rank must then do in this step.
    """
    logits, boxes = logits.float(), boxes.float()
    by_logits, by_boxes = (logits, boxes) if assign_by is None else (_logits(assign_by[0]), assign_by[1].float())
    assignment, quality = _assignment(by_logits.detach(), by_boxes.detach(), points, strides, batch)
    foreground = assignment.foreground
    total = (_mean_of_ranks(quality.sum()) if together else quality.sum()).clamp_min(1)
    points_lost = quality_focal_loss(logits, assignment.class_targets)
    if not batch.view.all_labelled:
        points_lost = points_lost * batch.view.labelled[:, None, None]
    classes = points_lost.sum() / total
    wanted = batch.boxes_px.float()[assignment.box_index[foreground]]
    distances = (giou_loss(boxes[foreground], wanted) * quality[foreground]).sum() / total
    return Losses(CLASS_WEIGHT * classes, BOX_WEIGHT * distances, assignment)


@torch.no_grad()
def _assignment(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, batch: Batch
) -> tuple[Assignment, Tensor]:
    """In the form that methods read, and the quality (B, A) of the positives."""
    rows = batch.rows
    present = (rows >= 0) & batch.view.labelled[:, None]
    if rows.shape[1]:
        gt_boxes, gt_classes = batch.boxes_px[rows.clamp_min(0)], batch.class_ids[rows.clamp_min(0)]
    else:
        gt_boxes, gt_classes = boxes.new_zeros(batch.size, 0, 4), rows
    matched, quality = assign(logits, boxes, points, strides, gt_boxes, gt_classes, present)
    foreground = matched >= 0
    targets = torch.zeros_like(logits)
    if not rows.shape[1]:
        return Assignment(foreground, matched, targets), quality
    place = matched.clamp_min(0)
    targets.scatter_(2, gt_classes.gather(1, place)[..., None], quality[..., None])
    return Assignment(foreground, rows.gather(1, place).masked_fill(~foreground, -1), targets), quality


def _mean_of_ranks(value: Tensor) -> Tensor:
    """As mmdetection averages it, so that all ranks divide by the same."""
    if ranks.size() == 1:
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / ranks.size()


def _logits(scores: Tensor) -> Tensor:
    return torch.logit(scores.float(), eps=1e-6)


def _area(upper_left: Tensor, lower_right: Tensor) -> Tensor:
    return (lower_right - upper_left).clamp_min(0).prod(1)
