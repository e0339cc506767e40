"""How far two sets of query embeddings are from each other."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.adapters import fp32_island


@fp32_island
def embedding_distance(student: Tensor, teacher: Tensor, positive: Tensor, *, negatives: bool = True) -> Tensor:
    """Equation 8: means over an image's positive queries and over its others, added, then the mean over images.

    Args:
        student, teacher: (B, N, C).
        positive: (B, N) bool.
        negatives: with the part of the others.
    """
    error = (student - teacher).square().mean(2)
    total = _mean(error, positive)
    if negatives:
        total = total + _mean(error, ~positive)
    return total.mean()


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """(B,) of (B, N) where `chosen`; 0 where nothing is."""
    return (values * chosen).sum(1) / chosen.sum(1).clamp_min(1)
