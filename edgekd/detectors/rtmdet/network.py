"""RTMDet's network: CSPNeXt, CSPNeXt-PAFPN and the head, with mmdetection's names and order of operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.detectors.rtmdet.head import RTMDetHead
from edgekd.detectors.rtmdet.layers import ConvModule, CSPLayer, SPPBottleneck
from edgekd.detectors.rtmdet.scales import Scale

# Of pixels 0..255, in the order blue, green, red that the published weights want.
MEAN_BGR = (103.53, 116.28, 123.675)
STD_BGR = (57.375, 57.12, 58.395)
# Input channels, output channels, blocks, shortcuts in them, pooling pyramid; at width and depth 1.
_STAGES = (
    (64, 128, 3, True, False),
    (128, 256, 6, True, False),
    (256, 512, 6, True, False),
    (512, 1024, 3, False, True),
)


class CSPNeXt(nn.Module):
    """The backbone: a stem and four stages, each at half the resolution of the one before."""

    stage1: nn.Module
    stage2: nn.Module
    stage3: nn.Module
    stage4: nn.Module

    def __init__(self, scale: Scale, channels: int) -> None:
        super().__init__()
        half, whole = int(64 * scale.width // 2), scale.channels(64)
        self.stem = nn.Sequential(
            ConvModule(channels, half, 3, stride=2), ConvModule(half, half, 3), ConvModule(half, whole, 3)
        )
        for index, (inputs, outputs, blocks, shortcut, pyramid) in enumerate(_STAGES, 1):
            width = scale.channels(outputs)
            layers: list[nn.Module] = [ConvModule(scale.channels(inputs), width, 3, stride=2)]
            if pyramid:
                layers.append(SPPBottleneck(width))
            layers.append(CSPLayer(width, width, scale.blocks(blocks), shortcut, attention=True))
            self.add_module(f"stage{index}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to maps of strides 8, 16, 32."""
        x = self.stage1(self.stem(x))
        maps = []
        for stage in (self.stage2, self.stage3, self.stage4):
            x = stage(x)
            maps.append(x)
        return maps


class CSPNeXtPAFPN(nn.Module):
    """The neck: from coarse to fine and back, then one convolution per level."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        fine, middle, coarse = scale.levels
        blocks = scale.neck_blocks

        def layer(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(inputs, outputs, blocks, shortcut=False, attention=False)

        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.reduce_layers = nn.ModuleList([ConvModule(coarse, middle, 1), ConvModule(middle, fine, 1)])
        self.top_down_blocks = nn.ModuleList([layer(2 * middle, middle), layer(2 * fine, fine)])
        self.downsamples = nn.ModuleList([ConvModule(fine, fine, 3, stride=2), ConvModule(middle, middle, 3, stride=2)])
        self.bottom_up_blocks = nn.ModuleList([layer(2 * fine, middle), layer(2 * middle, coarse)])
        self.out_convs = nn.ModuleList(ConvModule(channels, fine, 3) for channels in scale.levels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Maps of the backbone, finest first, to maps of equal channels."""
        laterals, x = [], maps[-1]
        for reduce, block, finer in zip(self.reduce_layers, self.top_down_blocks, reversed(maps[:-1]), strict=True):
            lateral = reduce(x)
            laterals.append(lateral)
            x = block(torch.cat([self.upsample(lateral), finer], 1))
        results = [x]
        for down, block in zip(self.downsamples, self.bottom_up_blocks, strict=True):
            results.append(block(torch.cat([down(results[-1]), laterals.pop()], 1)))
        return [conv(result) for conv, result in zip(self.out_convs, results, strict=True)]


class RTMDet(nn.Module):
    """From images to class logits and box distances at every point.

    Attributes:
        scale: its size.
        class_names: index = class id of the logits.
        channels: C of the images; three are red, green, blue.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, scale: Scale, class_names: tuple[str, ...], channels: int = 3) -> None:
        """With random weights from torch's global generator."""
        super().__init__()
        self.scale, self.class_names, self.channels = scale, class_names, channels
        self.backbone = CSPNeXt(scale, channels)
        self.neck = CSPNeXtPAFPN(scale)
        self.bbox_head = RTMDetHead(scale, len(class_names))
        self.reset_input()
        for part in (*self.backbone.modules(), *self.neck.modules()):
            if isinstance(part, nn.Conv2d) and part.bias is not None:
                nn.init.zeros_(part.bias)

    def reset_input(self) -> None:
        """What the input is normalised with, on the default device: no part of a checkpoint.

        Images of other than three channels have no colours; each channel then is as grey.
        """
        for name, colours in (("mean", MEAN_BGR), ("std", STD_BGR)):
            values = torch.tensor(colours)
            values = values if self.has_colours else values.mean().expand(self.channels)
            self.register_buffer(name, values.reshape(1, -1, 1, 1).clone(), persistent=False)

    @property
    def has_colours(self) -> bool:
        """Whether images are red, green, blue."""
        return self.channels == 3

    def normalised(self, images: Tensor) -> Tensor:
        """Images in 0..1, colours as edgekd has them, to what the weights were trained on."""
        ordered = images.flip(1) if self.has_colours else images
        return (ordered * 255 - self.mean) / self.std

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps of the neck for images (B, C, H, W) in 0..1."""
        maps: list[Tensor] = self.neck(self.backbone(self.normalised(images)))
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K, A) and distances (B, 4, A), in strides, of images in 0..1."""
        features = self.features(images)
        return self.bbox_head.class_logits(features), self.bbox_head.distances(features)
