"""Where a feature map is strong, over its positions and over its channels: attention as in FKD, FGD and DMKD."""

from __future__ import annotations

from torch import Tensor

from edgekd.distill.adapters import fp32_island


@fp32_island
def spatial_attention(feature: Tensor, temperature: float) -> Tensor:
    """H W softmax over h, w of (mean over c of |F|) / temperature: (N, 1, H, W), of mean 1; `feature` (N, C, H, W)."""
    strength = feature.abs().mean(1, keepdim=True)
    positions = strength.shape[2] * strength.shape[3]
    return (strength.flatten(1) / temperature).softmax(1).reshape(strength.shape) * positions


@fp32_island
def channel_attention(feature: Tensor, temperature: float) -> Tensor:
    """C softmax over c of (mean over h, w of |F|) / temperature: (N, C, 1, 1), of mean 1; `feature` (N, C, H, W)."""
    strength = feature.abs().mean((2, 3), keepdim=True)
    return (strength / temperature).softmax(1) * feature.shape[1]
