"""How far two maps are apart, at each position; reduced to a mean by what the positions count.

All are 0 where both sides are equal, and grow with what differs: cosine and Pearson distances are 1 less the
similarity, the divergence has logarithms on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.adapters import fp32_island
from edgekd.distill.neck.ssim import normalised as from_0_to_1
from edgekd.distill.neck.ssim import ssim_map
from edgekd.distill.searched.transforms import Sides, attended, log_distribution, normalised, scaled

ALPHA = 1.01  # of `correlation`


@fp32_island
def mean_distance(student: Tensor, teacher: Tensor, weight: Tensor, kind: str, least: float = 1e-6) -> Tensor:
    """Weighted mean over positions of a distance of `POSITIONS`, a scalar; 0 where nothing counts.

    Args:
        student, teacher: (N, C, H, W).
        weight: (N, H, W).
        least: what the weights are taken to sum to at least.
    """
    return (POSITIONS[kind](student, teacher) * weight).sum() / weight.sum().clamp_min(least)


@fp32_island
def divergence(
    student: Tensor, teacher: Tensor, weight: Tensor, over: str = "softmax_c", least: float = 1e-6
) -> Tensor:
    """KL(teacher || student) of distributions over channels at each position, weighted mean; see `mean_distance`.

    With `over` softmax_hw of distributions over positions, mean over channels: a position's part counts its weight.
    """
    log_teacher, log_student = log_distribution(teacher, over), log_distribution(student, over)
    parts = log_teacher.exp() * (log_teacher - log_student)
    positions = parts.shape[2] * parts.shape[3]
    of_position = parts.sum(1) if over != "softmax_hw" else parts.mean(1) * positions
    return (of_position * weight).sum() / weight.sum().clamp_min(least)


@fp32_island
def correlation(student: Tensor, teacher: Tensor, weight: Tensor, least: float = 1e-6) -> Tensor:
    """log2(1 + sum over channels of |v - 1|^2.02), v: a channel's correlation between both sides over all positions.

    Information Theoretic Representation Distillation, Miles et al., BMVC 2022, arXiv 2112.00459. There (and in DetKDS)
    without the 1, so that the value has no lower bound.
    """
    share = (weight / weight.sum().clamp_min(least)).unsqueeze(1)

    def standardised(side: Tensor) -> Tensor:
        centred = side - (side * share).sum((0, 2, 3), keepdim=True)
        return centred / ((centred.square() * share).sum((0, 2, 3), keepdim=True) + 1e-8).sqrt()

    found = (standardised(student) * standardised(teacher) * share).sum((0, 2, 3))
    return torch.log2(1 + (found - 1).square().pow(ALPHA).sum())


def compared(sides: Sides, normalise: str, kind: str, least: float = 1e-6) -> Tensor:
    """Both sides normalised, and their distance by its name.

    The divergence takes distributions: those that `normalise` makes, else over channels of what it gives.
    """
    softmax = normalise.startswith("softmax")
    if not (softmax and kind == "kl"):
        ours, theirs = (normalised(side, normalise) for side in (sides.student, sides.teacher))
        sides = Sides(ours, theirs, sides.weight)
    if kind == "kl":
        return divergence(sides.student, sides.teacher, sides.weight, normalise if softmax else "softmax_c", least)
    if kind == "correlation":
        return correlation(sides.student, sides.teacher, sides.weight, least)
    return mean_distance(sides.student, sides.teacher, sides.weight, kind, least)


@fp32_island
def map_distance(
    student: Tensor, teacher: Tensor, weight: Tensor, parts: Mapping[str, str], generator: torch.Generator
) -> Tensor:
    """The distance of two maps after attention, scale and normalisation; a scalar, 0 where nothing counts.

    Args:
        student, teacher: (N, C, H, W).
        weight: (N, H, W).
        parts: `attention`, `scale`, `normalise` and `distance`.
        generator: for the positions that are hidden.
    """
    if not len(student):  # no instance in the batch
        return student.sum()
    sides = scaled(attended(Sides(student, teacher, weight), parts["attention"], generator), parts["scale"])
    return compared(sides, parts["normalise"], parts["distance"])


def _l1(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).abs().mean(1)


def _l2(student: Tensor, teacher: Tensor) -> Tensor:
    return (student - teacher).square().mean(1)


def _smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    return F.smooth_l1_loss(student, teacher, reduction="none").mean(1)


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the squared distance of unit vectors, which is 1 - cosine, and 0 where both are zero."""
    ours, theirs = (F.normalize(side, dim=1, eps=1e-6) for side in (student, teacher))
    return (ours - theirs).square().sum(1) / 2


def _pearson(student: Tensor, teacher: Tensor) -> Tensor:
    return _cosine(student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True))


def _ssim(student: Tensor, teacher: Tensor) -> Tensor:
    return (1 - ssim_map(from_0_to_1(student), from_0_to_1(teacher))).mean(1) / 2


# (N, C, H, W) and (N, C, H, W) -> (N, H, W)
POSITIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": _l1, "l2": _l2, "smooth_l1": _smooth_l1, "cosine": _cosine, "pearson": _pearson, "ssim": _ssim,
}  # fmt: skip
