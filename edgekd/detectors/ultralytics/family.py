"""The Ultralytics family: opens YOLO and RT-DETR by the name of a model, by a model YAML, or by weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.style import THE_ENGINES, TrainingStyle
from edgekd.detectors.ultralytics import weights
from edgekd.detectors.ultralytics.architectures import architecture, is_named, known_names
from edgekd.detectors.ultralytics.detector import UltralyticsDetector


class UltralyticsFamily:
    """See `Family`. The training engine is its own: it has no habits beside those."""

    name = "ultralytics"
    student_files: tuple[str, ...] = (weights.CHECKPOINT, weights.TWIN)
    train_defaults: Mapping[str, Any] = {}
    style: TrainingStyle = THE_ENGINES
    packages: tuple[str, ...] = ("ultralytics",)

    def missing(self) -> str | None:
        """Nothing: it comes with edgekd."""
        return None

    def models(self) -> list[str]:
        """See `Family.models`."""
        return known_names()

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """By the name of the model, else by the suffix of the weights and by their header, if they have one."""
        if model is not None:
            return is_named(model)
        return weights_path is not None and weights.may_hold(weights_path)

    def open(self, asked: Asked) -> UltralyticsDetector:
        """See `Family.open`."""
        return UltralyticsDetector.opened(asked)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`: layers, scale, bins."""
        module: Any = detector.module
        expected, found = _features(architecture(model, where)), _features(module.yaml)
        return [key for key, value in expected.items() if found[key] not in (value, None)]


def _features(config: Mapping[str, Any]) -> dict[str, Any]:
    """What tells one model YAML from another, whatever version of the engine wrote it; None where it does not say."""
    scale = (config.get("scales") or {}).get(config.get("scale"))
    return {
        "layers": [layer[2] for layer in (*config["backbone"], *config["head"])],
        "scale": list(scale) if scale else None,
        "bins": config.get("reg_max", 16),
    }


families.register(UltralyticsFamily())
