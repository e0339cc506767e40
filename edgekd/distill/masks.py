"""Where a loss looks: the teacher's confidence, the ground truth, and what is hidden from the student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DensePredictions


def confidence(*branches: DensePredictions) -> Tensor:
    """Best class probability per point, (B, A) in 0..1, over the classes that the detector knows; float32, detached.

    With several branches it is that of their mean logits.
    """
    logits = reduce(torch.add, [branch.class_logits.detach() for branch in branches])
    known = branches[0].known_classes
    if known is not None:
        logits = logits.masked_fill(~known, float("-inf"))
    return (logits.amax(-1).float() / len(branches)).sigmoid()


def taught(batch: Batch, known: Tensor | None) -> Batch:
    """The batch with the objects of classes that the teacher knows alone; `known` is (K,) bool, None: all."""
    if known is None:
        return batch
    kept = known[batch.class_ids]
    return replace(
        batch, image_index=batch.image_index[kept], class_ids=batch.class_ids[kept], boxes_px=batch.boxes_px[kept]
    )


def cell_centres(feature: Tensor, stride: int) -> Tensor:
    """Where the cells of a (N, C, H, W) map lie in the image: (H * W, 2) x, y in px."""
    y, x = (((torch.arange(size, device=feature.device) + 0.5) * stride) for size in feature.shape[-2:])
    grid = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid[1], grid[0]], -1).reshape(-1, 2)


def gaussian_masks(points_px: Tensor, batch: Batch, sigma: float) -> Tensor:
    """A bell over each ground-truth box, 1 in its centre and 0 outside of it; the highest counts: (B, A).

    Args:
        points_px: (A, 2).
        sigma: its standard deviation, in sides of the box.
    """
    boxes = batch.boxes_px.unsqueeze(1)  # (M, 1, 4)
    centres, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    offsets = (points_px - centres) / sides.clamp_min(1e-6)
    bells = (-0.5 * (offsets / sigma).square().sum(-1)).exp() * (offsets.abs() < 0.5).all(-1)  # (M, A)
    masks = bells.new_zeros(batch.size, len(points_px))
    return masks.scatter_reduce(0, batch.image_index.unsqueeze(1).expand_as(bells), bells, "amax")


def inside_boxes(points_px: Tensor, batch: Batch) -> Tensor:
    """Whether each point lies in a ground-truth box of each image, (B, A) bool; `points_px` is (A, 2)."""
    boxes = batch.boxes_px.unsqueeze(1)  # (M, 1, 4)
    inside = ((points_px > boxes[..., :2]) & (points_px < boxes[..., 2:])).all(-1)  # (M, A)
    count = torch.zeros(batch.size, points_px.shape[0], device=points_px.device)
    return count.index_add_(0, batch.image_index, inside.to(count.dtype)) > 0


def random_mask(shape: Sequence[int], ratio: float, generator: torch.Generator) -> Tensor:
    """Zeros with probability `ratio`, else ones; float32, drawn from `generator` on its device."""
    drawn = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return (drawn >= ratio).float()


def strongest_hidden(attention: Tensor, ratio: float) -> Tensor:
    """Per image, zeros at the share `ratio` of the entries where `attention` (N, ...) is largest, ones elsewhere."""
    flat = attention.flatten(1)
    hidden = flat.topk(round(ratio * flat.shape[1]), dim=1).indices
    return torch.ones_like(flat).scatter(1, hidden, 0.0).reshape(attention.shape)
