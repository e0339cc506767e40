"""Dynamic soft-label assignment (RTMDet, arXiv 2212.07784, section 3.3; numbers of mmdetection 3.3.0).

    cost     c(a, g) = QFL(scores at a, IoU(a, g) at g's class) - 3 log IoU(a, g) + 10 ^ (d(a, g) - 3)
    d(a, g)  from a to the centre of g, in strides
    number   k(g) = whole part of the sum of g's 13 largest IoUs, at least 1
    matched  g's k(g) points of least cost; a point that several boxes want goes to the one of least cost

over the points a that lie inside any box. All images of a batch at once, in parts that bound the memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CANDIDATES = 13
IOU_WEIGHT = 3.0
CENTRE_RADIUS = 3.0
_TINY = 1e-7  # in the logarithm of an IoU
_LEAST_UNION = 1e-6
_MOST_PAIRS = 1 << 23  # points times boxes that are compared at once: 32 MB per tensor of them


def assign(
    logits: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    gt_boxes: Tensor,
    gt_classes: Tensor,
    present: Tensor,
) -> tuple[Tensor, Tensor]:
    """Which ground truth each point is to find.

    Args:
        logits: (B, A, K).
        boxes: (B, A, 4) px, predicted.
        points: (A, 2) px.
        strides: (A,).
        gt_boxes: (B, G, 4) px; images with fewer boxes are filled up.
        gt_classes: (B, G) int64.
        present: (B, G) bool, False at the filling.

    Returns:
        matched (B, A) int64, the place in G, -1 at the background; quality (B, A), the IoU with it, 0 there.
    """
    batch, count, _ = logits.shape
    matched = torch.full((batch, count), -1, dtype=torch.int64, device=logits.device)
    quality = torch.zeros((batch, count), dtype=torch.float32, device=logits.device)
    most = gt_boxes.shape[1]
    if not most:
        return matched, quality
    x, y = points[:, 0], points[:, 1]
    left, top, right, bottom = (edge[..., None] for edge in gt_boxes.unbind(-1))
    inside = (x > left) & (y > top) & (x < right) & (y < bottom) & present[..., None]  # (B, G, A)
    candidate = inside.any(1)
    kept = int(candidate.sum(1).max())
    if not kept:
        return matched, quality
    order = candidate.float().topk(kept, 1).indices  # of each image, its candidates, and others where it has fewer
    at_once = max(1, _MOST_PAIRS // (kept * most))
    for start in range(0, batch, at_once):
        part = slice(start, start + at_once)
        chosen = order[part]
        found, overlap = _match(
            logits[part].gather(1, chosen[..., None].expand(-1, -1, logits.shape[2])).float(),
            boxes[part].gather(1, chosen[..., None].expand(-1, -1, 4)).float(),
            points[chosen],
            strides[chosen],
            (gt_boxes[part].float(), gt_classes[part], present[part]),
            candidate[part].gather(1, chosen),
        )
        matched[part] = matched[part].scatter(1, chosen, found)
        quality[part] = quality[part].scatter(1, chosen, overlap)
    return matched, quality


def _match(
    logits: Tensor,
    boxes: Tensor,
    points: Tensor,
    strides: Tensor,
    truth: tuple[Tensor, Tensor, Tensor],
    candidate: Tensor,
) -> tuple[Tensor, Tensor]:
    """`assign` for chosen points (B, V) of each image, of which only those in `candidate` (B, V) count."""
    gt_boxes, gt_classes, present = truth
    usable = present[..., None] & candidate[:, None]  # (B, G, V)
    ious = pairwise_iou(gt_boxes, boxes).masked_fill(~usable, 0)
    cost = _class_cost(logits, gt_classes, ious) - IOU_WEIGHT * torch.log(ious + _TINY)
    centres = (gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2
    apart = (points[:, None] - centres[:, :, None]).square().sum(-1).sqrt() / strides[:, None]
    cost = (cost + torch.pow(10, apart - CENTRE_RADIUS)).masked_fill(~usable, torch.inf)
    most = min(CANDIDATES, ious.shape[2])
    wanted = ious.topk(most, -1).values.sum(-1, keepdim=True).int().clamp_min(1)
    least = cost.topk(most, -1, largest=False)
    taken = (torch.arange(most, device=cost.device) < wanted) & least.values.isfinite()
    match = torch.zeros_like(usable).scatter(2, least.indices, taken)
    several = match.sum(1) > 1
    box = torch.where(several, cost.argmin(1), match.int().argmax(1))
    foreground = match.any(1)
    overlap = ious.gather(1, box[:, None])[:, 0]
    return box.masked_fill(~foreground, -1), overlap.masked_fill(~foreground, 0)


def _class_cost(logits: Tensor, gt_classes: Tensor, ious: Tensor) -> Tensor:
    """Quality focal loss (B, G, V) of each point's scores against each box's class with the IoU as its target.

    All classes but the box's own have the target 0: their sum is the same for every box, less that of its class.
    """
    nothing = F.softplus(logits) * logits.sigmoid().square()  # (B, V, K)
    own = logits.transpose(1, 2).gather(1, gt_classes[..., None].expand(-1, -1, logits.shape[1]))
    scores = own.sigmoid()
    wrong = F.softplus(own) * scores.square()
    right = F.binary_cross_entropy_with_logits(own, ious, reduction="none") * (ious - scores).square()
    return nothing.sum(2)[:, None] - wrong + right


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """(B, N, M) of boxes (B, N, 4) and (B, M, 4), x1 y1 x2 y2."""
    x1, y1, x2, y2 = (edge[:, :, None] for edge in first.unbind(-1))
    u1, v1, u2, v2 = (edge[:, None] for edge in second.unbind(-1))
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp_min(0)
    shared = width * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp_min(0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    return shared / union.clamp_min(_LEAST_UNION)
