"""A two-stage detector of torchvision as teacher: Faster R-CNN, and Mask R-CNN without its masks.

It teaches by its maps, by its proposals, and by its detections where they become labels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.regions import RegionPredictions
from edgekd.detectors.spec import Branch, Part
from edgekd.detectors.torchvision import heads, second_stage
from edgekd.detectors.torchvision.base import TorchvisionDetector
from edgekd.detectors.torchvision.rows import ClassRows
from edgekd.errors import InputError


class RegionDetector(TorchvisionDetector):
    """Faster R-CNN."""

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute`; where no prediction is asked for, the backbone and its pyramid run alone."""
        if parts:
            return self._predictions(images)
        heads.features(self.module, images)
        return {}

    def _predictions(self, images: Tensor) -> dict[str, Tensor]:
        """`scores` (B, R, K) and `boxes` (B, R, 4) px of every region."""
        return second_stage.of_proposals(self.module, images, self.columns)

    def assemble(self, found: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        regions = RegionPredictions(found["scores"], found["boxes"]) if found else None
        return DetectorOutput(dict(taps), regions=regions)

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.spec.name}: head_tail: its head has no towers over the student's points")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`."""
        copy: Any = deepcopy(self.module).float().cpu().eval().requires_grad_(False)
        copy.roi_heads.mask_roi_pool = None  # without it a Mask R-CNN makes no masks
        return RegionExport(copy, len(self.column_names), self.columns).eval()


class RegionExport(ClassRows):
    """Images (B, C, H, W) in 0..1 to detections (B, k, 6), best first: box xyxy px, score, class.

    They are torchvision's own, with its NMS, its threshold on scores and its k; rows behind the last one are zeros.
    """

    def __init__(self, network: nn.Module, columns: int, kept: Sequence[int]) -> None:
        """`columns`: of the class logits; `kept` those that are classes."""
        super().__init__(columns, kept)
        self.network: Any = network

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        from torchvision.models.detection.image_list import ImageList

        network, sizes = self.network, [(images.shape[2], images.shape[3])] * len(images)
        pixels = (images - network.pixel_mean) / network.pixel_std
        maps: OrderedDict[str, Tensor] = network.backbone(pixels)
        proposals, _ = network.rpn(ImageList(pixels, sizes), maps)
        found, _ = network.roi_heads(maps, proposals, sizes)
        return self.rows(found, network.roi_heads.detections_per_img)
