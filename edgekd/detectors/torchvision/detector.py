"""A one-stage detector of torchvision as teacher: RetinaNet, FCOS, SSD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import DensePredictions, DetectorOutput
from edgekd.detectors.spec import Branch, Part, Spec
from edgekd.detectors.torchvision import classes, heads
from edgekd.detectors.torchvision.description import describe, taps_at
from edgekd.detectors.torchvision.models import MODELS
from edgekd.errors import InputError


class DenseDetector:
    """A detector whose network is torchvision's own (`module`); its input transform is not used."""

    def __init__(self, module: nn.Module, name: str, columns: Sequence[str], spec: Spec | None = None) -> None:
        """See the class.

        Args:
            name: of the model.
            columns: names of all columns of the class logits.
            spec: of a network whose description is known.
        """
        self.module = module
        self.column_names = tuple(columns)
        self.columns = classes.kept(columns)
        self.model = MODELS[name]
        self.spec = spec or describe(module, name, tuple(columns[column] for column in self.columns))

    def with_taps(self, paths: Sequence[str]) -> DenseDetector:
        """See `Detector.with_taps`."""
        known = {tap.path for tap in self.spec.taps}
        taps = taps_at(self.module, self.spec.name, [path for path in dict.fromkeys(paths) if path not in known])
        return self._like(self.module, replace(self.spec, taps=self.spec.taps + taps)) if taps else self

    def with_module(self, module: nn.Module) -> DenseDetector:
        """See `Detector.with_module`."""
        return self._like(module, self.spec)

    def frozen(self) -> DenseDetector:
        """See `Detector.frozen`."""
        return self.with_module(deepcopy(self.module).eval().requires_grad_(False))

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

    def _like(self, module: nn.Module, spec: Spec) -> DenseDetector:
        return DenseDetector(module, self.spec.name, self.column_names, spec)


def _decode(network: Any, codes: Tensor | None, around: Tensor, images: Tensor) -> Tensor:
    if codes is None:
        raise RuntimeError("boxes were not computed: add 'boxes' to the method's needs")
    return heads.decoded(network, codes, around, images)
