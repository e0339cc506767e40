"""Where a loss looks: the teacher's confidence, the ground truth, and what is hidden from the student."""

from __future__ import annotations

from collections.abc import Sequence
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
