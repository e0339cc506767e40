"""RTMDet's head: two towers per level; their convolutions are the same at all levels, their batch norms are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.rtmdet.layers import ConvModule
from edgekd.detectors.rtmdet.scales import STACKED_CONVS, STRIDES, Scale

CLASS_PRIOR = 0.01  # what the scores of a fresh class layer say of every point


class Exponential(nn.Module):
    """From logarithms to distances."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x.exp()


class RTMDetHead(nn.Module):
    """Class logits and distances to the four edges, at the corners of cells.

    Attributes:
        exponential: what the last convolution gives are logarithms of distances.
    """

    def __init__(self, scale: Scale, classes: int) -> None:
        super().__init__()
        width = scale.levels[0]
        self.exponential = scale.exponential
        self.cls_convs = nn.ModuleList(_tower(width) for _ in STRIDES)
        self.reg_convs = nn.ModuleList(_tower(width) for _ in STRIDES)
        self.rtm_cls = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in STRIDES)
        self.rtm_reg = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in STRIDES)
        for towers in (self.cls_convs, self.reg_convs):
            share(towers)
        self.reset()

    def reset(self) -> None:
        """Fresh weights for all of the head."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        self.reset_classes()

    def reset_classes(self) -> None:
        """Fresh class layers: at each point every class has the score `CLASS_PRIOR`.

        Without that bias the first scores are one half, and thousands of points that are nothing outweigh all else.
        """
        for layer in self.rtm_cls:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))

    def class_logits(self, features: Sequence[Tensor]) -> Tensor:
        """(B, K, A) of the neck's maps, finest level first."""
        return self._run(self.cls_convs, self.rtm_cls, features)

    def distances(self, features: Sequence[Tensor]) -> Tensor:
        """(B, 4, A): left, top, right, bottom in strides."""
        raw = self._run(self.reg_convs, self.rtm_reg, features)
        return raw.exp() if self.exponential else raw

    def layers(self, part: str, level: int) -> list[nn.Module]:
        """The layers of a tower up to its output, in their order: of `boxes`, or of the class logits."""
        towers: Any = self.reg_convs if part == "boxes" else self.cls_convs
        last: Any = self.rtm_reg if part == "boxes" else self.rtm_cls
        return [*towers[level], last[level]]

    def _run(self, towers: nn.ModuleList, last: nn.ModuleList, features: Sequence[Tensor]) -> Tensor:
        maps = []
        for tower, layer, feature in zip(towers, last, features, strict=True):
            value = feature
            for convolution in tower:  # type: ignore[attr-defined]
                value = convolution(value)
            maps.append(layer(value).flatten(2))
        return torch.cat(maps, 2)


def share(towers: Any) -> None:
    """Let all levels have the first one's convolutions."""
    for tower in towers[1:]:
        for own, first in zip(tower, towers[0], strict=True):
            own.conv = first.conv


def _tower(width: int) -> nn.ModuleList:
    return nn.ModuleList(ConvModule(width, width, 3) for _ in range(STACKED_CONVS))
