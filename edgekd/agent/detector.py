# SPDX-License-Identifier: Apache-2.0
"""The agent as a library: camera frames in, detections out. What a bundle's example uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Optional, Sequence, Tuple, Union

import numpy as np

from .artifact import load
from .postprocess import Decoded
from .preprocess import Letterbox, best_resize
from .protocol import AgentError
from .session import Session

if TYPE_CHECKING:
    import numpy.typing as npt


class Detector:
    """Detects objects in one frame after the other.

    Args:
        folder: of the artifact: the model and edgekd.json.
        threads: of inference.
        conf, iou, max_det: thresholds; None takes the default, or the graph's own.
        provider: where the runtime has to run it, e.g. `["CUDAExecutionProvider"]`.

    Raises:
        AgentError: the artifact is not whole, or its runtime is missing.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        threads: int = 1,
        conf: float = 0.25,
        iou: Optional[float] = None,
        max_det: Optional[int] = None,
        provider: Optional[Sequence[str]] = None,
    ) -> None:
        artifact = load(Path(folder))
        self.channels = int(artifact.input_shape[1] or 3)
        self.session = Session(artifact, artifact.size_px, self.channels, threads, conf, iou, max_det, None, provider)
        self._resize = best_resize()[1]
        self._letterboxes: Dict[Tuple[int, int], Letterbox] = {}
        self._letterboxed = np.empty((1, *artifact.size_px, self.channels), np.uint8)

    def __call__(self, frame: npt.NDArray[np.uint8]) -> Decoded:
        """Detections of a (h, w, C) uint8 frame, RGB, best first; boxes in its own pixels."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != self.channels:
            given = f"{frame.dtype} {frame.shape}"
            raise AgentError("frame", f"a frame is uint8 (height, width, {self.channels}); got {given}")
        letterbox = self._letterbox(frame.shape[0], frame.shape[1])
        letterbox(frame, self._letterboxed[0])
        self.session.put(self._letterboxed)
        self.session.buffer[1:] = self.session.buffer[0]
        (found,) = self.session.decode(self.session.infer(), 1)
        return Decoded(letterbox.restore(found.boxes_px), found.scores, found.class_ids)

    def _letterbox(self, height: int, width: int) -> Letterbox:
        """The one for frames of this size; cameras have few."""
        if (height, width) not in self._letterboxes:
            artifact = self.session.artifact
            self._letterboxes[height, width] = Letterbox(
                (height, width), artifact.size_px, artifact.pad_value, self._resize
            )
        return self._letterboxes[height, width]
