"""An exported artifact, ready to detect: the agent's own way from a frame to detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.agent.detector import Detector
from edgekd.api.detections import Detections
from edgekd.api.typed import typed_errors
from edgekd.data.letterbox import load_image
from edgekd.errors import InputError
from edgekd.export.artifacts import open_artifact
from edgekd.types import ByteArray


class Predictor:
    """Detects objects in images with an exported artifact, on this machine.

    Attributes:
        folder: of the artifact.
        class_names: of what it finds.
        size_px: (height, width) that images are letterboxed to.
    """

    def __init__(self, folder: Path, detector: Detector, class_names: tuple[str, ...]) -> None:
        self.folder, self.class_names = folder, class_names
        self.size_px = detector.session.artifact.size_px
        self._detector = detector

    @typed_errors
    def predict(self, image: Any, conf: float = 0.0) -> Detections:
        """What it finds in an image, best first, boxes in the image's own pixels.

        Args:
            image: path of a file; or (h, w, C) uint8, RGB if C is 3 (an image of Pillow is taken, too).
            conf: drop what is less sure; what `load` was told is dropped already.

        Raises:
            InputError: no image, or one with other channels.
        """
        frame = self._frame(image)
        found = self._detector(frame)
        all_of_them = Detections(
            np.asarray(found.boxes_px, np.float32), np.asarray(found.class_ids, np.int64),
            np.asarray(found.scores, np.float32), self.class_names, frame,
        )  # fmt: skip
        return all_of_them[np.asarray(found.scores) >= conf] if conf else all_of_them

    def __repr__(self) -> str:
        return f"Predictor({str(self.folder)!r}: {len(self.class_names)} classes, {self.size_px} px)"

    def _frame(self, image: Any) -> ByteArray:
        if isinstance(image, (str, Path)):
            if not Path(image).is_file():
                raise InputError(f"{image}: no such image file; correct the path")
            return load_image(Path(image), self._detector.channels)
        frame = np.asarray(image)
        frame = frame[..., None] if frame.ndim == 2 else frame
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != self._detector.channels or not frame.size:
            raise InputError(
                f"predict: an image is a path or a uint8 array (height, width, {self._detector.channels}), RGB if it "
                f"has 3 channels; got {frame.dtype} {frame.shape}"
            )
        return np.ascontiguousarray(frame)


@typed_errors
def load(
    artifact: str | Path,
    *,
    conf: float = 0.25,
    iou: float | None = None,
    max_det: int | None = None,
    threads: int = 1,
    provider: Sequence[str] | None = None,
) -> Predictor:
    """Open an exported artifact on this machine: `edgekd.load("runs/street/export/onnx-fp32").predict("a.jpg")`.

    Args:
        artifact: its folder, or `Artifact.folder`.
        conf, iou, max_det: thresholds; None takes the default, or the graph's own.
        threads: of inference.
        provider: where the runtime has to run it, e.g. `["CUDAExecutionProvider"]`.

    Raises:
        InputError: no artifact, or one that was changed.
        EnvironmentFault: its runtime is not here.
    """
    folder = Path(artifact)
    if (folder / "manifest.json").is_file() and not (folder / "edgekd.json").is_file():
        known = sorted(path.parent.name for path in folder.glob("export/*/edgekd.json"))
        which = f"{folder}/export/{known[0]} (of {', '.join(known)})" if known else "once something is exported"
        raise InputError(f"{folder}: is a run, not an artifact; load {which}")
    names = tuple(open_artifact(folder).sidecar.class_names)
    return Predictor(folder, Detector(folder, threads, conf, iou, max_det, provider), names)
