"""The family of teachers that are ONNX files: `teacher: {weights: FILE.onnx}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.style import THE_ENGINES, TrainingStyle
from edgekd.errors import InputError

_SUFFIX = ".onnx"


class OnnxFamily:
    """See `Family`. Its detectors teach; none is trained here."""

    name = "onnx"
    student_files: tuple[str, ...] = ()
    train_defaults: Mapping[str, Any] = {}
    style: TrainingStyle = THE_ENGINES
    packages: tuple[str, ...] = ("onnxruntime",)

    def missing(self) -> str | None:
        """Nothing: ONNX Runtime comes with edgekd."""
        return None

    def models(self) -> list[str]:
        """It has no names."""
        return []

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """By the suffix of the file."""
        return model is None and weights_path is not None and weights_path.suffix.lower() == _SUFFIX

    def open(self, asked: Asked) -> Detector:
        """See `Family.open`."""
        from edgekd.detectors.onnx import facts, network
        from edgekd.detectors.onnx.detector import OnnxDetector

        where = f"{asked.where}.weights"
        if asked.model is not None:
            raise InputError(f"{asked.where}.model: an ONNX file is a whole detector; leave model out")
        if asked.weights is None:
            raise InputError(f"{where}: missing; name an ONNX file")
        found, may_have_grid = facts.read(asked.weights, network.metadata(asked.weights, where), where)
        return OnnxDetector(network.OnnxNetwork(asked.weights, found, where), found, may_have_grid)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{where}: an ONNX file is a whole detector; leave model out")


families.register(OnnxFamily())
