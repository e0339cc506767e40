"""The torchvision family: teachers by the name of a model, with weights from a file.

Nothing here imports torchvision before a detector is opened: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import described, families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.style import THE_ENGINES, TrainingStyle
from edgekd.detectors.torchvision.models import MODELS, known
from edgekd.errors import InputError


class TorchvisionFamily:
    """See `Family`. Its detectors teach; none is trained here."""

    name = "torchvision"
    student_files: tuple[str, ...] = ()
    train_defaults: Mapping[str, Any] = {}
    style: TrainingStyle = THE_ENGINES
    packages: tuple[str, ...] = ("torchvision",)

    def missing(self) -> str | None:
        """Nothing: torchvision comes with edgekd."""
        return None

    def models(self) -> list[str]:
        """See `Family.models`."""
        return list(MODELS)

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """By the name of the model, else by what safetensors say of themselves."""
        if model is not None:
            return model in MODELS
        return weights_path is not None and (described.header_of(weights_path) or {}).get("family") == self.name

    def open(self, asked: Asked) -> Detector:
        """See `Family.open`."""
        from edgekd.detectors.torchvision import classes, weights
        from edgekd.detectors.torchvision.build import build
        from edgekd.detectors.torchvision.detector import DenseDetector
        from edgekd.detectors.torchvision.fixed_size import FixedSizeDetector
        from edgekd.detectors.torchvision.two_stage import RegionDetector

        name = asked.model or _named_in(asked.weights)
        if name is None:
            raise InputError(
                f"{asked.where}.model: missing; weights of torchvision do not say what they are of: give one of "
                f"{', '.join(MODELS)}"
            )
        kind = known(name, f"{asked.where}.model").kind
        if asked.weights is not None:
            network, columns = weights.load(name, asked.weights, asked.where)
        else:
            columns = classes.of_data(asked.class_names)
            network = build(name, len(columns), asked.channels)
        if kind == "faster_rcnn":
            return RegionDetector(network, name, columns)
        if kind == "ssd300":
            return FixedSizeDetector(network, name, columns)
        return DenseDetector(network, name, columns)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`."""
        known(model, where)
        return [] if detector.spec.name == model else [f"{detector.spec.name} and {model}"]


def _named_in(path: Path | None) -> str | None:
    """The model that safetensors of edgekd say they are of."""
    said = (described.header_of(path) or {}).get("model") if path is not None else None
    return said if isinstance(said, str) else None


families.register(TorchvisionFamily())
