"""Small trainable networks that several methods put between student and teacher. None is ever exported."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.distill.adapters import fp32_island


def generator(channels: int, width: int | None = None) -> nn.Sequential:
    """MGD's: 3x3 convolution, ReLU, 3x3 convolution; it fills in what a mask took away. (N, C, H, W) to the same.

    Args:
        width: channels inside; default: `channels`.
    """
    width = width or channels
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, channels, 3, padding=1)
    )


class BatchNorm(nn.BatchNorm2d):
    """A batch norm that also takes one image of one cell, where a batch has no variance: the running one serves."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class NonLocal(nn.Module):
    """Adds to each position what resembles it: x_i + BN(W mean over j of (q_i . k_j) v_j), dot-product form.

    Non-local Neural Networks, Wang et al., CVPR 2018, arXiv 1711.07971. Keys and values are max-pooled. It begins as
    the identity, since the batch norm's factor begins at 0.
    """

    def __init__(self, channels: int, reduction: int, pool: int) -> None:
        """`reduction`: of the channels inside; `pool`: side of the pooling window, cut to the map."""
        super().__init__()
        inner = max(channels // reduction, 1)
        self.query, self.key, self.value = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.out = nn.Conv2d(inner, channels, 1, bias=False)
        self.norm = BatchNorm(channels)
        nn.init.zeros_(self.norm.weight)
        self.pool = pool

    def forward(self, feature: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        height, width = feature.shape[-2:]
        window = (min(self.pool, height), min(self.pool, width))
        keys, values = (F.max_pool2d(layer(feature), window).flatten(2) for layer in (self.key, self.value))
        context = _attend(self.query(feature).flatten(2), keys, values)
        added: Tensor = self.norm(self.out(context.reshape(*context.shape[:2], height, width)))
        return feature + added


@fp32_island
def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Queries (N, C, I), keys and values (N, C, J) to (N, C, I)."""
    return torch.bmm(values, torch.bmm(keys.transpose(1, 2), queries)) / keys.shape[2]
