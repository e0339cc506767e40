"""A detection loss for queries whose objects somebody else has chosen: focal loss, L1 and GIoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.detectors.regions import Regions
from edgekd.distill.adapters import fp32_island
from edgekd.distill.boxes import box_loss, iou
from edgekd.distill.masks import taught
from edgekd.distill.matching import SPENT, Matches, detection_cost, match_layers
from edgekd.distill.queries import Answers, image_size, l1_distance
from edgekd.distill.regions import ground_truth


@dataclass(frozen=True)
class Objects:
    """The labels of a batch, per image.

    Attributes:
        boxes_px: (B, G, 4).
        classes: (B, G) int64.
        valid: (B, G) bool.
    """

    boxes_px: Tensor
    classes: Tensor
    valid: Tensor

    @classmethod
    def of(cls, batch: Batch, known: Tensor | None = None) -> Objects:
        """Of the labelled images, cut off at the image; of classes that are known alone."""
        regions, classes = ground_truth(taught(batch, known))
        return cls(regions.boxes_px, classes, regions.valid & batch.view.labelled[:, None])

    @property
    def again(self) -> Tensor:
        """(B, G) int64, an image's own objects, from the first again where others of the batch have more."""
        own = self.valid.sum(1, keepdim=True).clamp_min(1)
        return torch.arange(self.valid.shape[1], device=own.device) % own

    @property
    def regions(self) -> Regions:
        """The same as regions."""
        return Regions(self.boxes_px, self.valid)


def assign(layers: Sequence[Answers], objects: Objects, batch: Batch) -> list[Matches]:
    """Per layer, which query answers for which object, at the least cost of a detection."""
    with SPENT:
        costs = [cost_of(found, objects, batch) for found in layers]
    return match_layers(costs, objects.valid)


def cost_of(found: Answers, objects: Objects, batch: Batch) -> Tensor:
    """(B, Q, G); see `detection_cost`."""
    return detection_cost(found.logits, found.boxes_px, objects.classes, objects.boxes_px, image_size(batch))


def detection_loss(
    found: Answers,
    assigned: Matches,
    objects: Objects,
    batch: Batch,
    factors: tuple[float, float, float],
    known: Tensor | None,
    counted: Tensor | None = None,
) -> dict[str, Tensor]:
    """`class`, `l1` and `giou` of queries that an assignment gives objects; all others shall see nothing.

    Sums over the batch, divided by the number of objects (at least 1).

    Args:
        factors: on the three.
        known, counted: see `class_sum`.
    """
    count = objects.valid.sum().clamp_min(1)
    targets = torch.zeros_like(found.logits, dtype=torch.float32)
    classes = assigned.of_targets(objects.classes)
    targets[assigned.image_index, assigned.query_index, classes] = 1.0
    ours, theirs = assigned.of_queries(found.boxes_px), assigned.of_targets(objects.boxes_px)
    return {
        "class": factors[0] * class_sum(focal_loss(found.logits, targets), batch, known, counted) / count,
        "l1": factors[1] * l1_distance(ours, theirs, batch).sum() / count,
        "giou": factors[2] * box_loss(ours, theirs).sum() / count,
    }


def class_sum(losses: Tensor, batch: Batch, known: Tensor | None, counted: Tensor | None = None) -> Tensor:
    """Sum of class losses (B, Q, K): images without labels have no part, for they may show anything.

    Args:
        known: (K,) bool, classes whose objects are assigned; None: all. Nobody says where those of others are.
        counted: (B, Q) bool, queries that count; None: all.
    """
    shown = batch.view.labelled[:, None] if counted is None else counted & batch.view.labelled[:, None]
    total = (losses * shown.unsqueeze(-1)).sum((0, 1))
    return (total if known is None else total * known).sum()


@fp32_island
def focal_loss(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (RetinaNet, arXiv 1708.02002) without reduction: (..., K) of logits and 0 or 1 targets."""
    scores = logits.sigmoid()
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missed = (scores - targets).abs()
    return (alpha * targets + (1 - alpha) * (1 - targets)) * missed**gamma * losses


@fp32_island
def quality_focal_loss(logits: Tensor, targets: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (GFL, arXiv 2006.04388) without reduction: (..., K) of logits and targets in 0..1."""
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (logits.sigmoid() - targets).abs() ** beta * losses


def quality_targets(found: Answers, assignments: tuple[Matches, ...], objects: Objects) -> Tensor:
    """(B, Q, K) targets: the IoU of a query's box with the object that an assignment gives it, the best of several."""
    targets = torch.zeros_like(found.logits, dtype=torch.float32)
    for assigned in assignments:
        quality = iou(assigned.of_queries(found.boxes_px), assigned.of_targets(objects.boxes_px))
        place = (assigned.image_index, assigned.query_index, assigned.of_targets(objects.classes))
        targets[place] = torch.maximum(targets[place], quality.to(targets.dtype))
    return targets
