"""A one-stage detector of torchvision as teacher: RetinaNet, FCOS, SSD."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import DensePredictions, DetectorOutput
from edgekd.detectors.spec import Branch, Part
from edgekd.detectors.torchvision import heads
from edgekd.detectors.torchvision.base import TorchvisionDetector
from edgekd.errors import InputError


class DenseDetector(TorchvisionDetector):
    """RetinaNet, FCOS or SSD."""

    def compute(self, images: Tensor, parts: frozenset[Part]) -> dict[str, Tensor]:
        """See `Detector.compute` and `heads.outputs`."""
        maps = heads.features(self.module, images)
        return heads.outputs(self.module, self.model.kind, maps, parts, self.columns)

    def assemble(self, found: Mapping[str, Tensor], taps: Mapping[str, Tensor], images: Tensor) -> DetectorOutput:
        """See `Detector.assemble`."""
        if not found:
            return DetectorOutput(dict(taps))
        height, width = images.shape[-2:]
        strides = self.model.strides
        sizes = tuple((-(-height // stride), -(-width // stride)) for stride in strides)
        around = heads.anchors(self.module, sizes, images)
        per_level = [rows * columns * self.model.anchors for rows, columns in sizes]
        point_strides = torch.cat([
            torch.full((count,), float(stride), device=images.device)
            for count, stride in zip(per_level, strides, strict=True)
        ])  # fmt: skip
        predictions = DensePredictions(
            points_px=(around[:, :2] + around[:, 2:]) / 2,
            point_strides=point_strides,
            level_sizes=sizes,
            decode=partial(_decode, self.module, found.get("boxes"), around, images),
            logits=found.get("scores"),
        )
        return DetectorOutput(dict(taps), {"one2many": predictions})

    def head_tail(self, part: Part, level: int, cut: int, branch: Branch) -> nn.Module:
        """See `Detector.head_tail`.

        Raises:
            InputError: always: no end of one tower gives one prediction per class and cell.
        """
        reasons = {
            "retinanet": f"predicts {self.model.anchors} times at each point",
            "fcos": "has scores of two towers, of the class and of the centerness",
            "ssd": "has no towers",
        }
        raise InputError(f"{self.spec.name}: head_tail: its head {reasons[self.model.kind]}; cut 0 to {cut} has no end")

    def export_module(self, head: Branch | None = None) -> nn.Module:
        """See `Detector.export_module`."""
        copy = deepcopy(self.module).float().cpu().eval().requires_grad_(False)
        return heads.DenseExport(copy, self.model.kind, self.columns).eval()


def _decode(network: Any, codes: Tensor | None, around: Tensor, images: Tensor) -> Tensor:
    if codes is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    return heads.decoded(network, codes, around, images)
