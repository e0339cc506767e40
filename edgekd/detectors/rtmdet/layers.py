"""Building blocks of RTMDet. Modules are named as in mmdetection, so that its checkpoints fit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvModule(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.activate = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        result: Tensor = self.activate(self.bn(self.conv(x)))
        return result


class DepthwiseSeparable(nn.Module):
    """A convolution of each channel by itself, then one across channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(inputs, inputs, kernel, groups=inputs)
        self.pointwise_conv = ConvModule(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        result: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return result


class CSPNeXtBlock(nn.Module):
    """3x3, then 5x5 depthwise; with a shortcut around both where `shortcut` says so."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 3)
        self.conv2 = DepthwiseSeparable(channels, channels, 5)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), the same shape out."""
        result: Tensor = self.conv2(self.conv1(x))
        return result + x if self.shortcut else result


class ChannelAttention(nn.Module):
    """Each channel times what all channels' means say of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), the same shape out."""
        result: Tensor = x * self.act(self.fc(self.global_avgpool(x)))
        return result


class CSPLayer(nn.Module):
    """Two halves of the channels, one of which passes through blocks; joined, weighed (backbone only) and mixed."""

    def __init__(self, inputs: int, outputs: int, blocks: int, shortcut: bool, attention: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv = ConvModule(inputs, half, 1)
        self.short_conv = ConvModule(inputs, half, 1)
        self.final_conv = ConvModule(2 * half, outputs, 1)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(half, shortcut) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * half) if attention else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        joined = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        if self.attention is not None:
            joined = self.attention(joined)
        result: Tensor = self.final_conv(joined)
        return result


class SPPBottleneck(nn.Module):
    """Maxima over windows of 5, 9 and 13 cells beside the map itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = ConvModule(channels, half, 1)
        self.poolings = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))
        self.conv2 = ConvModule(half * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), the same shape out."""
        x = self.conv1(x)
        result: Tensor = self.conv2(torch.cat([x, *(pooling(x) for pooling in self.poolings)], 1))
        return result
