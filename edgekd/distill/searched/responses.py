"""What heads say as maps and boxes that are compared: class scores and the distances to a box's edges, transformed."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import BoxLoss, box_loss, from_distances
from edgekd.distill.searched.distances import compared
from edgekd.distill.searched.transforms import Sides, alike


@fp32_island
def logit_distance(
    student: Tensor, teacher: Tensor, weight: Tensor, known: Tensor | None, transform: str, distance: str
) -> Tensor:
    """The distance of class scores: of their sigmoid, transformed; with `softmax_c` of the softmax over classes.

    `reshape_n` makes one vector of an image's scores, `reshape_c` one of a class's; their points count alike.

    Args:
        student, teacher: (B, A, K) logits.
        weight: (B, A), what the points count.
        known: (K,) bool, classes that the teacher knows; None: all.
    """
    if known is not None:
        student, teacher = student[..., known], teacher[..., known]
    if transform == "softmax_c":
        return compared(Sides(_as_map(student), _as_map(teacher), weight[..., None]), transform, distance, least=1.0)
    ours, theirs = _as_map(student.sigmoid()), _as_map(teacher.sigmoid())
    if transform in ("reshape_n", "reshape_c"):
        rows = [side.transpose(0, 1) if transform == "reshape_c" else side for side in (ours, theirs)]
        ours, theirs = (side.reshape(side.shape[0], -1, 1, 1) for side in rows)
        return compared(Sides(ours, theirs, alike(theirs)), "none", distance)
    return compared(Sides(ours, theirs, weight[..., None]), transform, distance, least=1.0)


@fp32_island
def box_distance(
    student: Tensor,
    teacher: Tensor,
    points_px: Tensor,
    strides: Tensor,
    weight: Tensor,
    transform: str,
    kind: BoxLoss,
) -> Tensor:
    """1 - IoU (or one of its family) of both sides' boxes, whose edges' distances from their point are transformed.

    Args:
        student, teacher: (B, A, 4) px.
        points_px, strides: (A, 2) and (A,).
        weight: (B, A).
    """
    ours, theirs = (
        from_distances(points_px, strides, _edges(to_distances(points_px, strides, side), transform))
        for side in (student, teacher)
    )
    return (box_loss(ours, theirs, kind) * weight).sum() / weight.sum().clamp_min(1.0)


def to_distances(points_px: Tensor, strides: Tensor, boxes_px: Tensor) -> Tensor:
    """Left, top, right, bottom (B, A, 4) of boxes from points (A, 2), in strides: the inverse of `from_distances`."""
    reach = torch.cat([points_px - boxes_px[..., :2], boxes_px[..., 2:] - points_px], -1)
    return reach / strides.unsqueeze(-1)


def _edges(distances: Tensor, transform: str) -> Tensor:
    """Softmax over the batch or over a box's edges, of mean 1; the square; the sigmoid."""
    if transform == "softmax_n":
        return distances.softmax(0) * distances.shape[0]
    if transform == "softmax_c":
        return distances.softmax(-1) * distances.shape[-1]
    if transform == "pow2":
        return distances.square()
    return distances.sigmoid() if transform == "sigmoid" else distances


def _as_map(scores: Tensor) -> Tensor:
    """(B, A, K) -> (B, K, A, 1)."""
    return scores.transpose(1, 2).unsqueeze(-1)
