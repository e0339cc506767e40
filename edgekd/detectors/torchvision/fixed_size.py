"""SSD300 of torchvision as teacher: its head sees 300 x 300 px, whatever the image.

Its last maps have a cell each 100 and 300 px, and its levels have four or six boxes a cell, so its predictions belong
to no grid that a student has. It teaches by the maps below the head, which are those of the image itself, and by its
proposals and its detections, which are those of the resized image.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from edgekd.detectors.spec import Branch
from edgekd.detectors.torchvision import heads
from edgekd.detectors.torchvision.rows import ClassRows
from edgekd.detectors.torchvision.two_stage import RegionDetector

_SIDE_PX = 300


class FixedSizeDetector(RegionDetector):
    """SSD300."""

    def _predictions(self, images: Tensor) -> dict[str, Tensor]:
        """Of every box that is placed on the resized image."""
        heads.features(self.module, images)  # for the taps
        network: Any = self.module
        pixels = _resized((images - network.pixel_mean) / network.pixel_std)
        maps = list(network.backbone(pixels).values())
        found = heads.outputs(network, "ssd", maps, frozenset({"class_logits", "boxes"}), self.columns)
        around = heads.anchors(network, [(one.shape[2], one.shape[3]) for one in maps], pixels)
        boxes = heads.decoded(network, found["boxes"], around, pixels)
        return {"scores": found["scores"], "boxes": boxes * _reach(images)}

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`."""
        copy = deepcopy(self.module).float().cpu().eval().requires_grad_(False)
        return FixedSizeExport(copy, len(self.column_names), self.columns).eval()


class FixedSizeExport(ClassRows):
    """Images (B, C, H, W) in 0..1 to detections (B, k, 6), best first: box xyxy px, score, class.

    They are torchvision's own, of the image resized as it resizes it.
    """

    def __init__(self, network: nn.Module, columns: int, kept: Sequence[int]) -> None:
        """`columns`: of the class logits; `kept` those that are classes."""
        super().__init__(columns, kept)
        self.network: Any = network

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        from torchvision.models.detection.image_list import ImageList

        network, side = self.network, (_SIDE_PX, _SIDE_PX)
        pixels = (images - network.pixel_mean) / network.pixel_std
        pixels = _resized(pixels)
        maps = list(network.backbone(pixels).values())
        around = network.anchor_generator(ImageList(pixels, [side] * len(images)), maps)
        found = network.postprocess_detections(network.head(maps), around, [side] * len(images))
        reach = _reach(images)
        return self.rows([{**one, "boxes": one["boxes"] * reach} for one in found], network.detections_per_img)


def _resized(pixels: Tensor) -> Tensor:
    return F.interpolate(pixels, size=(_SIDE_PX, _SIDE_PX), mode="bilinear", align_corners=False)


def _reach(images: Tensor) -> Tensor:
    """(4,) from pixels of the resized image to those of (B, C, H, W) images."""
    height, width = images.shape[-2:]
    return images.new_tensor([width, height, width, height]) / _SIDE_PX
