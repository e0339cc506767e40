"""Images as the input that an artifact takes: the one way for parity, calibration and comparisons on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.agent.preprocess import input_shape, to_input
from edgekd.export.contract import Sidecar
from edgekd.types import ByteArray


def model_input(images: ByteArray, sidecar: Sidecar) -> npt.NDArray[Any]:
    """Letterboxed images (n, H, W, C) uint8 RGB in the layout, type, scale and channel order that the sidecar states.

    The agent fills its buffers with the same function.
    """
    return _filled(images, sidecar.layout, sidecar.channel_order, sidecar)


def torch_input(images: ByteArray, sidecar: Sidecar) -> npt.NDArray[Any]:
    """The same images as the torch student takes them: (n, C, H, W) float32, RGB, whatever the artifact takes."""
    return _filled(images, "NCHW", "RGB", sidecar.model_copy(update={"input_dtype": "float32"}))


def _filled(images: ByteArray, layout: str, channel_order: str, sidecar: Sidecar) -> npt.NDArray[Any]:
    count, height, width, channels = images.shape
    shape = input_shape(layout, count, channels, (height, width))
    batch: npt.NDArray[Any] = np.empty(shape, dtype=sidecar.input_dtype)
    to_input(images, layout, channel_order, sidecar.scale, batch)
    return batch
