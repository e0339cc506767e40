"""Bipartite matching: which query answers for which target, each at most once, at the least total cost.

End-to-End Object Detection with Transformers, Carion et al., ECCV 2020, arXiv 2005.12872; class cost of Deformable
DETR, Zhu et al., ICLR 2021, arXiv 2010.04159. Targets may be ground truths or a teacher's queries: whoever has a cost
(B, Q, G) can match. Costs are computed on the device of their inputs, and are solved on the CPU, one image at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss, centred


@dataclass(frozen=True)
class Matches:
    """Pairs of a query and a target, image after image, by query within an image. All (M,) int64.

    Attributes:
        image_index: of the batch.
        query_index: of the image's Q queries.
        target_index: of the image's G targets.
    """

    image_index: Tensor
    query_index: Tensor
    target_index: Tensor

    def __len__(self) -> int:
        return len(self.image_index)

    def of_queries(self, values: Tensor) -> Tensor:
        """(B, Q, ...) -> (M, ...)."""
        return values[self.image_index, self.query_index]

    def of_targets(self, values: Tensor) -> Tensor:
        """(B, G, ...) -> (M, ...)."""
        return values[self.image_index, self.target_index]

    def matched(self, batch_size: int, queries: int) -> Tensor:
        """(B, Q) bool, queries that have a target."""
        found = torch.zeros(batch_size, queries, dtype=torch.bool, device=self.image_index.device)
        found[self.image_index, self.query_index] = True
        return found


@dataclass(frozen=True)
class CostWeights:
    """Factors of `detection_cost`'s parts, and focal loss's two numbers; defaults of Deformable DETR."""

    classes: float = 2.0
    l1: float = 5.0
    giou: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0


DEFORMABLE_DETR = CostWeights()


@torch.no_grad()
def match(cost: Tensor, valid: Tensor | None = None) -> Matches:
    """The pairs of least total cost, per image. As many pairs as can be; among those the cheapest.

    A pair whose cost is not finite is never matched: NaN and infinity say that it must not be. Neither queries nor
    targets need be enough for the other.

    Args:
        cost: (B, Q, G).
        valid: (B, G) bool, targets that there are; None: all.
    """
    from scipy.optimize import linear_sum_assignment

    usable = cost.isfinite() if valid is None else cost.isfinite() & valid.unsqueeze(1)
    table, usable = (side.detach().cpu() for side in (cost.double(), usable))  # one wait for the device
    rows = []
    for image, open_to_any in enumerate(usable.any(1)):
        targets = open_to_any.nonzero().flatten()
        if not targets.numel():
            continue
        open_ = usable[image][:, targets]
        prices = _closed(table[image][:, targets], open_)
        queries, places = (torch.from_numpy(found) for found in linear_sum_assignment(prices.numpy()))
        kept = open_[queries, places]
        rows.append(torch.stack([torch.full_like(queries, image), queries, targets[places]], 1)[kept])
    pairs = torch.cat(rows) if rows else torch.zeros(0, 3, dtype=torch.int64)
    return Matches(*pairs.to(cost.device).unbind(1))


def _closed(prices: Tensor, open_: Tensor) -> Tensor:
    """Prices (Q, G) in which a closed pair costs more than any choice of open ones can save."""
    low, high = prices[open_].min(), prices[open_].max()
    return torch.where(open_, prices, high + (high - low + 1) * min(prices.shape))


@torch.no_grad()
def detection_cost(
    logits: Tensor,
    boxes_px: Tensor,
    class_ids: Tensor,
    target_boxes_px: Tensor,
    size_px: tuple[int, int],
    weights: CostWeights = DEFORMABLE_DETR,
) -> Tensor:
    """What it costs that a query answers for a target, (B, Q, G): class, L1 of relative boxes, and -GIoU.

    Args:
        logits: (B, Q, K).
        boxes_px, target_boxes_px: (B, Q, 4) and (B, G, 4), x1 y1 x2 y2.
        class_ids: (B, G) int64, of the targets; those of padding may be anything from 0 to K - 1.
        size_px: (H, W) of the images.
    """
    by_class = focal_cost(logits, weights.alpha, weights.gamma)
    wanted = class_ids.unsqueeze(1).expand(-1, logits.shape[1], -1)
    return (
        weights.classes * by_class.gather(2, wanted)
        + weights.l1 * l1_cost(centred(boxes_px, size_px), centred(target_boxes_px, size_px))
        + weights.giou * giou_cost(boxes_px, target_boxes_px)
    )


@fp32_island
def focal_cost(logits: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of a class as target, less that of it as background: (..., K) of logits (..., K)."""
    ours, others = F.logsigmoid(logits), F.logsigmoid(-logits)
    probability = logits.sigmoid()
    return (1 - alpha) * probability**gamma * others - alpha * (1 - probability) ** gamma * ours


@fp32_island
def l1_cost(ours: Tensor, targets: Tensor) -> Tensor:
    """Sum of absolute differences, (B, Q, G) of (B, Q, D) and (B, G, D)."""
    return (ours.unsqueeze(2) - targets.unsqueeze(1)).abs().sum(-1)


@fp32_island
def giou_cost(boxes_px: Tensor, target_boxes_px: Tensor) -> Tensor:
    """-GIoU, (B, Q, G) of (B, Q, 4) and (B, G, 4), x1 y1 x2 y2 in one unit; it should be pixels."""
    shape = (*boxes_px.shape[:2], target_boxes_px.shape[1], 4)
    return box_loss(boxes_px.unsqueeze(2).expand(shape), target_boxes_px.unsqueeze(1).expand(shape)) - 1
