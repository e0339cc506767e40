"""The family of teachers that are files of detections: `teacher: {predictions: FILE}`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import families
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.predictions import results
from edgekd.detectors.predictions.detector import FAMILY, FileOfDetections
from edgekd.detectors.style import THE_ENGINES, TrainingStyle
from edgekd.errors import InputError


class PredictionsFamily:
    """See `Family`. Recipes mean it by the teacher's key `predictions` alone."""

    name = FAMILY
    student_files: tuple[str, ...] = ()
    train_defaults: Mapping[str, Any] = {}
    style: TrainingStyle = THE_ENGINES
    packages: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Nothing."""
        return None

    def models(self) -> list[str]:
        """It has no names."""
        return []

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """No weights are its own."""
        return False

    def open(self, asked: Asked) -> FileOfDetections:
        """See `Family.open`."""
        where = f"{asked.where}.predictions"
        if asked.weights is None:
            raise InputError(f"{where}: missing; name a JSON of detections")
        return FileOfDetections(results.read(asked.weights, where), asked.class_names, asked.channels, where)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`.

        Raises:
            InputError: always.
        """
        raise InputError(f"{where}: a file of detections is of no model; leave it out")


families.register(PredictionsFamily())
