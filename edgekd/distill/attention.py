"""Where a feature map is strong, over its positions and over its channels: attention as in FKD, FGD and DMKD."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.adapters import fp32_island


@fp32_island
def attentions(feature: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """`spatial_attention` and `channel_attention` of a map, in less time than one after the other."""
    magnitude = feature.abs()
    return _spatial(magnitude, temperature), _channel(magnitude, temperature)


@fp32_island
def spatial_attention(feature: Tensor, temperature: float) -> Tensor:
    """H W softmax over h, w of (mean over c of |F|) / temperature: (N, 1, H, W), of mean 1; `feature` (N, C, H, W)."""
    return _spatial(feature.abs(), temperature)


@fp32_island
def channel_attention(feature: Tensor, temperature: float) -> Tensor:
    """C softmax over c of (mean over h, w of |F|) / temperature: (N, C, 1, 1), of mean 1; `feature` (N, C, H, W)."""
    return _channel(feature.abs(), temperature)


def _spatial(magnitude: Tensor, temperature: float) -> Tensor:
    strength = magnitude.mean(1, keepdim=True)
    positions = strength.shape[2] * strength.shape[3]
    return (strength.flatten(1) / temperature).softmax(1).reshape(strength.shape) * positions


def _channel(magnitude: Tensor, temperature: float) -> Tensor:
    return (magnitude.mean((2, 3), keepdim=True) / temperature).softmax(1) * magnitude.shape[1]
