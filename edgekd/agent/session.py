# SPDX-License-Identifier: Apache-2.0
"""A model that is open and ready: its one input buffer, and what its outputs mean."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, List, Mapping, Optional, Sequence, Tuple, TypeVar

import numpy as np

from . import clock, postprocess, preprocess
from .artifact import Artifact
from .protocol import AgentError
from .runtimes import Runtime, open_model

if TYPE_CHECKING:
    import numpy.typing as npt

Self = TypeVar("Self", bound="Session")


class Session:
    """An artifact opened by its runtime, and the input buffer that all inferences use.

    Args:
        artifact: verified.
        size_px: (height, width) of the images.
        channels: of the images.
        threads: of inference.
        conf, iou, max_det: thresholds; None takes the default, or the graph's own.
        batch: images at once; None for the fixed one, or one.
        provider, provider_options: where the runtime has to run it.
        streams: sessions that will work at once; `fork` gives the others.

    Attributes:
        buffer: the model's input, (B, C, H, W) or (B, H, W, C), in the dtype that it takes.
        load_ms: from the file to a model that is ready, less what building its engine took.
    """

    def __init__(
        self,
        artifact: Artifact,
        size_px: Tuple[int, int],
        channels: int,
        threads: int = 1,
        conf: float = 0.25,
        iou: Optional[float] = None,
        max_det: Optional[int] = None,
        batch: Optional[int] = None,
        provider: Optional[Sequence[str]] = None,
        provider_options: Optional[Mapping[str, Mapping[str, str]]] = None,
        streams: int = 1,
    ) -> None:
        self.artifact = artifact
        started = clock.now_ns()
        self.runtime: Runtime = open_model(
            artifact.runtime,
            artifact.model_path,
            threads,
            artifact.precision,
            provider,
            artifact.build,
            provider_options,
            streams,
        )
        self.load_ms = (clock.now_ns() - started) / 1e6 - (self.runtime.build_ms or 0.0)
        self.batch = artifact.batch(batch)
        self._check_input()
        shape = preprocess.input_shape(artifact.layout, self.batch, channels, size_px)
        self.buffer: npt.NDArray[Any] = self.runtime.input_array(shape)
        self.settings = postprocess.settings(conf, iou, max_det, artifact.nms)
        self._decode = postprocess.decoder(artifact.decode, self.runtime.output_names)

    def fork(self: Self) -> Self:
        """Another one on the same model, with an input buffer of its own, for another thread.

        Raises:
            AgentError: the runtime cannot do two things at once.
        """
        other = copy.copy(self)
        other.runtime = self.runtime.fork()
        other.buffer = other.runtime.input_array(self.buffer.shape)
        return other

    @property
    def takes_frames(self) -> bool:
        """Whether the model's input is what a letterbox writes: uint8 (B, H, W, C)."""
        return self.artifact.layout == "NHWC" and self.buffer.dtype == np.uint8

    def put(self, images: npt.NDArray[np.uint8]) -> None:
        """Bring letterboxed images (n, H, W, C), at most a batch of them, into the buffer."""
        artifact = self.artifact
        buffer = self.buffer[: len(images)]
        preprocess.to_input(images, artifact.layout, artifact.channel_order, artifact.scale, buffer)

    def infer(self) -> List[npt.NDArray[np.float32]]:
        """Outputs for what is in the buffer."""
        return self.runtime.run(self.buffer)

    def decode(self, outputs: List[npt.NDArray[np.float32]], images: int) -> List[postprocess.Decoded]:
        """Detections of the first `images` images of the batch."""
        named = dict(zip(self.runtime.output_names, outputs))
        return [self._decode(named, image, self.settings) for image in range(images)]

    def _check_input(self) -> None:
        stated, taken = self.artifact.input_dtype, self.runtime.input_dtype
        if "uint8" in (stated, taken) and stated != taken:
            raise AgentError(
                "artifact", f"edgekd.json: input_dtype is {stated}, but the model takes {taken}; export it again"
            )
