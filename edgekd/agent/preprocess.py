# SPDX-License-Identifier: Apache-2.0
"""From pixels to the model's input: letterbox of a camera frame, then uint8 HWC to the layout and type it takes.

Frames are RGB (or whatever channels the data has) uint8 arrays. `predict` gets images that the host has letterboxed
already; `profile` times the whole way from a camera frame, with OpenCV where the device has it and numpy elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Tuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.floating[Any]]
    Anything = npt.NDArray[Any]
    Resize = Callable[["Bytes", Tuple[int, int]], "Bytes"]


def input_shape(layout: str, batch: int, channels: int, size_px: Tuple[int, int]) -> Tuple[int, int, int, int]:
    """Shape of the model's input for the sidecar's `layout`, NCHW or NHWC."""
    height, width = size_px
    return (batch, height, width, channels) if layout == "NHWC" else (batch, channels, height, width)


def to_input(images: Bytes, layout: str, channel_order: str, scale: float, out: Anything) -> None:
    """Write (B, H, W, C) uint8 images into the model's input `out`.

    A uint8 input gets the pixels as they are: the graph scales them. A floating-point one gets them divided by `scale`
    in float32.

    Args:
        layout: of `out`: NCHW or NHWC.
        channel_order: of `out`; images are RGB, and are turned where it is BGR.
    """
    if channel_order == "BGR":
        images = images[..., ::-1]
    arranged = images if layout == "NHWC" else images.transpose(0, 3, 1, 2)
    if out.dtype == np.uint8:
        out[...] = arranged
    else:
        np.divide(arranged, np.float32(scale), out=out, dtype=np.float32, casting="unsafe")


class Letterbox:
    """Resizes frames of one size into one input size, keeping their shape, centred on a border of one grey.

    Bilinear, without anti-aliasing; sizes and borders are rounded as the host does it for validation.

    Args:
        frame_px: (height, width) of the frames.
        size_px: (height, width) of the model's input.
        pad_value: grey of the border.
        resize: a function (frame, (height, width)) -> frame.
    """

    def __init__(self, frame_px: Tuple[int, int], size_px: Tuple[int, int], pad_value: int, resize: Resize) -> None:
        self._resize = resize
        self._pad_value = pad_value
        self._size_px = size_px
        ratio = min(size_px[0] / frame_px[0], size_px[1] / frame_px[1])
        self.inner_px = (max(round(frame_px[0] * ratio), 1), max(round(frame_px[1] * ratio), 1))
        self._frame_px = frame_px
        self.top_px = round((size_px[0] - self.inner_px[0]) / 2 - 0.1)
        self.left_px = round((size_px[1] - self.inner_px[1]) / 2 - 0.1)

    def __call__(self, frame: Bytes, out: Bytes) -> None:
        """Write the letterboxed (h, w, C) frame into `out` (H, W, C)."""
        height, width = self.inner_px
        if self.inner_px != self._size_px:
            out[...] = self._pad_value
        resized = frame if frame.shape[:2] == self.inner_px else self._resize(frame, self.inner_px)
        out[self.top_px : self.top_px + height, self.left_px : self.left_px + width] = resized

    def restore(self, boxes_px: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) x1 y1 x2 y2 of the letterboxed image, in pixels of the frame and clipped to it."""
        (height, width), (inner_height, inner_width) = self._frame_px, self.inner_px
        pad = np.array([self.left_px, self.top_px] * 2, np.float32)
        scale = np.array([inner_width / width, inner_height / height] * 2, np.float32)
        restored: npt.NDArray[np.float32] = np.clip(
            (boxes_px - pad) / scale, 0, np.array([width, height] * 2, np.float32)
        )
        return restored


def best_resize() -> Tuple[str, Resize]:
    """The fastest resize that this device has, and what it is: OpenCV (on one thread) or numpy."""
    try:
        import cv2
    except ImportError:
        return "numpy " + np.__version__, NumpyResize()
    cv2.setNumThreads(1)
    return "cv2 " + cv2.__version__, _cv2_resize


def _cv2_resize(frame: Bytes, size_px: Tuple[int, int]) -> Bytes:
    import cv2

    resized = cv2.resize(frame, (size_px[1], size_px[0]), interpolation=cv2.INTER_LINEAR)
    restored: Bytes = resized.reshape(*size_px, frame.shape[2])  # OpenCV drops a single channel
    return restored


class NumpyResize:
    """Bilinear resize with pixel centres at 0.5, within one grey level of OpenCV's; its tables are kept per size."""

    def __init__(self) -> None:
        self._tables: Any = {}

    def __call__(self, frame: Bytes, size_px: Tuple[int, int]) -> Bytes:
        """Resize a (h, w, C) frame to (size_px[0], size_px[1], C)."""
        top, bottom, down = self._table(frame.shape[0], size_px[0])
        left, right, across = self._table(frame.shape[1], size_px[1])
        down, across = down[:, None, None], across[None, :, None]
        upper = _lerp(frame[top[:, None], left], frame[top[:, None], right], across)
        lower = _lerp(frame[bottom[:, None], left], frame[bottom[:, None], right], across)
        mixed: Floats = _lerp(upper, lower, down)
        rounded: Bytes = (mixed + np.float32(0.5)).astype(np.uint8)
        return rounded

    def _table(self, source: int, target: int) -> Any:
        if (source, target) not in self._tables:
            centre = (np.arange(target) + 0.5) * (source / target) - 0.5
            first = np.clip(np.floor(centre).astype(np.int64), 0, source - 1)
            second = np.minimum(first + 1, source - 1)
            self._tables[source, target] = first, second, np.clip(centre - first, 0, 1).astype(np.float32)
        return self._tables[source, target]


def _lerp(start: Any, stop: Any, share: Any) -> Any:
    return start + (stop.astype(np.float32) - start) * share


def frame_from_image(image: Bytes, frame_px: Tuple[int, int]) -> Bytes:
    """A camera frame with the content of an image, stretched to (height, width) by nearest neighbour.

    It gives the timed loop real content, so that post-processing has real detections to work on.
    """
    rows = np.arange(frame_px[0]) * image.shape[0] // frame_px[0]
    columns = np.arange(frame_px[1]) * image.shape[1] // frame_px[1]
    return np.ascontiguousarray(image[rows[:, None], columns])
