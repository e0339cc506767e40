"""What is done to both sides before they are compared: attention, scale and normalisation of (N, C, H, W) maps.

A cell's `weight` (N, H, W) says how much it counts in the distance. It goes along: where maps are pooled or cut, it is,
too, and what was hidden or padded counts for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.attention import channel_attention, spatial_attention
from edgekd.distill.masks import random_mask
from edgekd.distill.neck.ssim import normalised as from_0_to_1

TEMPERATURE = 0.5  # of attention
HIDDEN = 0.65  # of the positions, by `mask`
LEAST = 1e-12  # of an attention, whose root has no gradient at 0
_AXES = {"n": (0,), "c": (1,), "hw": (2, 3), "batch": (0, 2, 3)}


@dataclass(frozen=True)
class Sides:
    """Both maps, and what their cells count.

    Attributes:
        student, teacher: (N, C, H, W).
        weight: (N, H, W).
    """

    student: Tensor
    teacher: Tensor
    weight: Tensor


def alike(feature: Tensor) -> Tensor:
    """Weights (N, H, W) of a map all of whose cells count alike."""
    return feature.new_ones(feature.shape[0], *feature.shape[2:])


def attended(sides: Sides, kind: str, generator: torch.Generator) -> Sides:
    """Each side times the root of its own attention; or positions hidden from both, the same ones.

    The root, because a squared distance then has the attention itself, as FGD's.
    """
    if kind == "none":
        return sides
    if kind == "mask":
        shown = random_mask(sides.weight.shape, HIDDEN, generator)
        return Sides(sides.student * shown[:, None], sides.teacher * shown[:, None], sides.weight * shown)
    attention = spatial_attention if kind == "spatial" else channel_attention
    ours, theirs = (
        side * attention(side, TEMPERATURE).clamp_min(LEAST).sqrt() for side in (sides.student, sides.teacher)
    )
    return Sides(ours, theirs, sides.weight)


def scaled(sides: Sides, kind: str) -> Sides:
    """Maps at a coarser scale, (N, C, H / n, W / n), by their maximum; or their n x n patches as samples of their own.

    Sizes that n does not divide are rounded up; what is missing counts for nothing.
    """
    if kind == "none":
        return sides
    count = int(kind[-1])
    change = _pooled if kind.startswith("pool") else _patches
    ours, theirs, weight = (change(one, count) for one in (sides.student, sides.teacher, sides.weight[:, None]))
    return Sides(ours, theirs, weight[:, 0])


def normalised(feature: Tensor, kind: str) -> Tensor:
    """A map standardised or of unit length along an axis, from 0 to 1 per image, or as a distribution."""
    if kind == "none":
        return feature
    if kind == "min_max":
        return from_0_to_1(feature)
    what, _, axis = kind.partition("_")
    if what == "unit":
        return F.normalize(feature, dim=_AXES[axis], eps=1e-6)  # type: ignore[arg-type]
    if what == "softmax":
        return log_distribution(feature, kind).exp()
    centred = feature - feature.mean(_AXES[axis], keepdim=True)
    return centred / (centred.square().mean(_AXES[axis], keepdim=True) + 1e-5).sqrt()


def log_distribution(feature: Tensor, kind: str) -> Tensor:
    """Logarithm of a distribution over positions per channel (`softmax_hw`), else over channels at each position."""
    if kind == "softmax_hw":
        return feature.flatten(2).log_softmax(2).reshape(feature.shape)
    return feature.log_softmax(1)


def _pooled(feature: Tensor, count: int) -> Tensor:
    return F.max_pool2d(feature, count, ceil_mode=True)


def _patches(feature: Tensor, count: int) -> Tensor:
    """(N, C, H, W) -> (count^2 N, C, H / count, W / count)."""
    images, channels, height, width = feature.shape
    down, across = -(-height // count), -(-width // count)
    padded = F.pad(feature, (0, across * count - width, 0, down * count - height))
    cut = padded.reshape(images, channels, count, down, count, across)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, down, across)
