"""Bipartite matching: which query answers for which target, each at most once, at the least total cost.

End-to-End Object Detection with Transformers, Carion et al., ECCV 2020, arXiv 2005.12872; class cost of Deformable
DETR, Zhu et al., ICLR 2021, arXiv 2010.04159. Targets may be ground truths or a teacher's queries: whoever has a cost
(B, Q, G) can match. Costs are computed on the device of their inputs, and are solved on the CPU, large ones in threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.cores import own_cores
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import centred, upright


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
_EPS = 1e-7  # torchvision's
_WORTH_A_THREAD = 100 * 100  # numbers of an image's cost: a smaller one is solved in less than a thread takes to start


def match(cost: Tensor, valid: Tensor | None = None) -> Matches:
    """The pairs of least total cost, per image. As many pairs as can be; among those the cheapest.

    A pair whose cost is not finite is never matched: NaN and infinity say that it must not be. Neither queries nor
    targets need be enough for the other.

    Args:
        cost: (B, Q, G).
        valid: (B, G) bool, targets that there are; None: all.
    """
    return Matches(*_matched(cost, valid).to(cost.device).unbind(1))


def match_layers(costs: Sequence[Tensor], valid: Tensor | Sequence[Tensor] | None = None) -> list[Matches]:
    """`match` of several costs (B, Q, G), one per decoder layer: with one wait for the device, and all solved at once.

    Args:
        valid: (B, G) bool, the same for all, or one for each.
    """
    batch = len(costs[0])
    layers = [valid] * len(costs) if isinstance(valid, Tensor) else valid
    every = None if layers is None else torch.cat(list(layers))
    pairs = _matched(torch.cat(list(costs)), every)
    of_layer = torch.bincount(pairs[:, 0] // batch, minlength=len(costs)).tolist()
    pairs[:, 0] %= batch
    return [Matches(*rows.unbind(1)) for rows in torch.split(pairs.to(costs[0].device), of_layer)]


class Spent(AbstractContextManager[None]):
    """How long matching has taken in this process: costs, and their solution, without waiting for a device.

    Attributes:
        seconds: since they were last taken.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += perf_counter() - self._began

    def take(self) -> float:
        """The seconds so far; counting begins anew."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


SPENT = Spent()


@torch.no_grad()
def _matched(cost: Tensor, valid: Tensor | None) -> Tensor:
    """(n, 3) image, query and target of all pairs, image after image, on the CPU."""
    table = cost.double()
    if valid is not None:
        table = table.masked_fill(~valid.unsqueeze(1), math.inf)
    table = table.cpu()  # the one wait for the device
    with SPENT:
        return torch.cat([torch.zeros(0, 3, dtype=torch.int64), *_solved(table, table.isfinite())])


def _solved(table: Tensor, usable: Tensor) -> Iterator[Tensor]:
    """Per image, in order, its pairs (n, 3). Images are shared out among threads: the solver lets others run."""
    images = range(len(table))
    threads = min(own_cores(), len(table)) if table.shape[1:].numel() >= _WORTH_A_THREAD else 1
    if threads < 2:
        yield from (_pairs(image, table[image], usable[image]) for image in images)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(_pairs, images, table, usable)


def _pairs(image: int, prices: Tensor, open_: Tensor) -> Tensor:
    """(n, 3) image, query and target of one image's (Q, G)."""
    from scipy.optimize import linear_sum_assignment

    targets = open_.any(0).nonzero().flatten()
    if not targets.numel():
        return torch.zeros(0, 3, dtype=torch.int64)
    open_ = open_[:, targets]
    table = _closed(prices[:, targets], open_)
    queries, places = (torch.from_numpy(found) for found in linear_sum_assignment(table.numpy()))
    kept = open_[queries, places]
    return torch.stack([torch.full_like(queries, image), queries, targets[places]], 1)[kept]


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
    return torch.cdist(ours, targets, p=1)


@fp32_island
def giou_cost(boxes_px: Tensor, target_boxes_px: Tensor) -> Tensor:
    """-GIoU, (B, Q, G) of (B, Q, 4) and (B, G, 4), x1 y1 x2 y2 in one unit; it should be pixels.

    That of `box_loss`, without its gradients: one coordinate at a time, which takes a tenth of the memory.
    """
    ours, theirs = (upright(side) for side in (boxes_px, target_boxes_px))
    shared = around = ours.new_ones(())
    for low, high in ((0, 2), (1, 3)):
        ends = [(ours[:, :, None, side], theirs[:, None, :, side]) for side in (low, high)]
        shared = shared * (torch.minimum(*ends[1]) - torch.maximum(*ends[0])).clamp_min(0)
        around = around * (torch.maximum(*ends[1]) - torch.minimum(*ends[0]))
    areas = [(side[..., 2:] - side[..., :2]).prod(-1) for side in (ours, theirs)]
    union = areas[0].unsqueeze(2) + areas[1].unsqueeze(1) - shared
    return (around - union) / (around + _EPS) - shared / (union + _EPS)
