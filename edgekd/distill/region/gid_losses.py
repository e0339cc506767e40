"""The four losses of GID, as functions of tensors. Equations and reductions stand in `gid.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.adapters import fp32_island


@fp32_island
def gid_feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of (n, C, h, w), summed over channels, averaged over the rest."""
    return (student - teacher).square().sum() / max(len(student) * student[0:1].flatten(2).shape[-1], 1)


@fp32_island
def gid_relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between the relative distances of instances, (n, ...) each; 0 below three of them."""
    count = len(student)
    if count < 3:
        return student.sum() * 0
    ours, theirs = (_relative_distances(side.flatten(1)) for side in (student, teacher))
    return F.smooth_l1_loss(ours, theirs, reduction="sum") / (count**2 - count)


@fp32_island
def gid_class_loss(student: Tensor, teacher: Tensor, known: Tensor | None = None) -> Tensor:
    """BCE of (P, K) logits with soft targets, summed over known classes, averaged over points."""
    weight = None if known is None else known.to(student.dtype)
    loss = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), weight=weight, reduction="sum")
    return loss / max(len(student), 1)


@fp32_island
def gid_box_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Distance of edges of (P, 4) boxes in units of the teacher's box, summed over edges, averaged over points."""
    sides = (teacher[:, 2:] - teacher[:, :2]).clamp_min(1.0).repeat(1, 2)
    return ((student - teacher).abs() / sides).sum() / max(len(student), 1)


def _relative_distances(vectors: Tensor) -> Tensor:
    """(n, n) of (n, D): Euclidean distances, divided by their mean over pairs; the diagonal is 0."""
    squares = vectors.square().sum(1)
    distances = (squares[:, None] + squares - 2 * vectors @ vectors.T).clamp_min(1e-12).sqrt()
    distances = distances * (1 - torch.eye(len(vectors), device=vectors.device))
    count = len(vectors)
    return distances / (distances.sum() / (count**2 - count)).clamp_min(1e-12)
