"""Boxes against boxes, row by row: x1 y1 x2 y2 in pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.adapters import fp32_island

BoxLoss = Literal["iou", "giou", "diou", "ciou", "eiou"]
LEAST_SIDE_PX = 0.1


@fp32_island
def box_loss(ours: Tensor, theirs: Tensor, kind: BoxLoss = "giou") -> Tensor:
    """1 less the IoU of two (..., 4), or less one of its family, without reduction: (...).

    GIoU: Rezatofighi et al., CVPR 2019, arXiv 1902.09630; DIoU and CIoU: Zheng et al., AAAI 2020, arXiv 1911.08287;
    EIoU: Zhang et al., arXiv 2101.08158. A young student's boxes may be turned inside out; they count as boxes of the
    least side, with finite gradients.
    """
    from torchvision.ops import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss

    ours, theirs = upright(ours), upright(theirs)
    if kind in ("iou", "eiou"):
        loss = 1 - _overlap(ours, theirs)
        return loss + _sides_apart(ours, theirs) if kind == "eiou" else loss
    functions = {"giou": generalized_box_iou_loss, "diou": distance_box_iou_loss, "ciou": complete_box_iou_loss}
    family: Tensor = functions[kind](ours, theirs)
    return family


def _sides_apart(ours: Tensor, theirs: Tensor) -> Tensor:
    """EIoU's penalties (...): squared distances of centres, widths and heights, over those of the box around both."""
    around = torch.maximum(ours[..., 2:], theirs[..., 2:]) - torch.minimum(ours[..., :2], theirs[..., :2])
    centres = (ours[..., :2] + ours[..., 2:] - theirs[..., :2] - theirs[..., 2:]) / 2
    sides = (ours[..., 2:] - ours[..., :2]) - (theirs[..., 2:] - theirs[..., :2])
    return centres.square().sum(-1) / around.square().sum(-1) + (sides / around).square().sum(-1)


@fp32_island
def iou(ours: Tensor, theirs: Tensor) -> Tensor:
    """Intersection over union of two (..., 4) that broadcast, detached: (...)."""
    return _overlap(upright(ours.detach()), upright(theirs.detach()))


def _overlap(ours: Tensor, theirs: Tensor) -> Tensor:
    shared = (torch.minimum(ours[..., 2:], theirs[..., 2:]) - torch.maximum(ours[..., :2], theirs[..., :2])).clamp_min(
        0
    )
    both = shared.prod(-1)
    union = (ours[..., 2:] - ours[..., :2]).prod(-1) + (theirs[..., 2:] - theirs[..., :2]).prod(-1) - both
    return both / union


def best_iou(boxes_px: Tensor, batch: Batch) -> Tensor:
    """Of every box (B, A, 4), the largest IoU with a ground truth of its image: (B, A), 0 on images without any."""
    overlaps = iou(boxes_px[batch.image_index], batch.boxes_px.unsqueeze(1))  # (M, A)
    best = overlaps.new_zeros(boxes_px.shape[:2])
    return best.scatter_reduce(0, batch.image_index.unsqueeze(1).expand_as(overlaps), overlaps, "amax")


def from_distances(points_px: Tensor, strides: Tensor, distances: Tensor) -> Tensor:
    """Boxes (B, A, 4) of distances left, top, right, bottom in strides from points (A, 2)."""
    reach = distances * strides.unsqueeze(-1)
    return torch.cat([points_px - reach[..., :2], points_px + reach[..., 2:]], -1)


def centred(boxes_px: Tensor, size_px: tuple[int, int]) -> Tensor:
    """(..., 4) x1 y1 x2 y2 in pixels -> centre x, centre y, width, height, relative to images of (H, W)."""
    scale = boxes_px.new_tensor([size_px[1], size_px[0]])
    low, high = boxes_px[..., :2] / scale, boxes_px[..., 2:] / scale
    return torch.cat([(low + high) / 2, high - low], -1)


def cornered(boxes: Tensor, size_px: tuple[int, int]) -> Tensor:
    """The inverse of `centred`."""
    scale = boxes.new_tensor([size_px[1], size_px[0]])
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([(centre - half) * scale, (centre + half) * scale], -1)


def upright(boxes: Tensor) -> Tensor:
    """(..., 4) of which none is turned inside out: each has at least the least side."""
    top_left = boxes[..., :2]
    return torch.cat([top_left, torch.maximum(boxes[..., 2:], top_left + LEAST_SIDE_PX)], -1)
