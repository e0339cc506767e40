"""From an image file to the network's pixels and back, bit for bit as the Ultralytics validation loader does it.

Follows `ultralytics.data.base.BaseDataset.load_image`, `ultralytics.data.augment.LetterBox(scaleup=False)`,
`ultralytics.utils.patches.imread` and `ultralytics.utils.ops.scale_boxes` of version 8.4, with `rect=False`. The steps
are kept apart as they are there (enlarge or shrink the long side, then shrink to fit), because two
interpolations do not equal one and AP is compared to the third digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.data.diagnosis import register_heif
from edgekd.errors import InputError
from edgekd.types import ByteArray, FloatArray

VERSION = 1  # part of every pack's hash; raise it with any change of pixels
PADDING = 114


@dataclass(frozen=True)
class Geometry:
    """Where an image lies in its letterboxed square or rectangle: `letterboxed = original * scale + pad`.

    The two scales differ a little, since each side is rounded to whole pixels on its own.
    """

    scale_x: float
    scale_y: float
    pad_left_px: int
    pad_top_px: int


def load_image(path: Path, channels: int) -> ByteArray:
    """Decode a file to uint8 [H, W, channels], RGB if there are three channels.

    EXIF rotation is applied for 1 and 3 channels; grey and colour are converted to what `channels` asks for; alpha is
    dropped; of 16 bits the high byte is kept. Any other number of channels takes the file as it is.

    Raises:
        InputError: the file cannot be read or decoded, or has another number of channels.
    """
    image = decode(Path(path), channels)
    if image is None:
        raise InputError(f"{path}: cannot be decoded as an image; replace or remove it")
    if image.shape[2] != channels:
        raise InputError(f"{path}: has {image.shape[2]} channels, the data set says {channels}; set channels to match")
    if channels == 3:
        image = image[..., ::-1]
    return np.ascontiguousarray(image)


def letterbox(image: ByteArray, size_px: tuple[int, int]) -> tuple[ByteArray, Geometry]:
    """Fit `image` [H, W, C] into `size_px` (height, width), centred, padded with grey 114.

    Returns:
        uint8 [size_px[0], size_px[1], C], and where the image lies in it.
    """
    original_h, original_w = image.shape[:2]
    long_side = max(size_px)
    ratio = long_side / max(original_h, original_w)
    if ratio != 1:
        wide = min(math.ceil(original_w * ratio), long_side)
        tall = min(math.ceil(original_h * ratio), long_side)
        image = _resize(image, tall, wide)
    resized_h, resized_w = image.shape[:2]
    shrink = min(size_px[0] / resized_h, size_px[1] / resized_w, 1.0)
    tall, wide = max(round(resized_h * shrink), 1), max(round(resized_w * shrink), 1)
    if (tall, wide) != (resized_h, resized_w):
        image = _resize(image, tall, wide)
    # 0.1 decides for odd paddings: the extra pixel goes to the right and to the bottom.
    top, left = round((size_px[0] - tall) / 2 - 0.1), round((size_px[1] - wide) / 2 - 0.1)
    canvas = np.full((*size_px, image.shape[2]), PADDING, dtype=np.uint8)
    canvas[top : top + tall, left : left + wide] = image
    scale_y, scale_x = resized_h / original_h * shrink, resized_w / original_w * shrink
    return canvas, Geometry(scale_x=scale_x, scale_y=scale_y, pad_left_px=left, pad_top_px=top)


def to_original(boxes_px: FloatArray, geometry: Geometry, height_px: int, width_px: int) -> FloatArray:
    """Boxes (N, 4) x1 y1 x2 y2 of the letterboxed image, in pixels of the original one and clipped to it."""
    boxes = np.array(boxes_px, dtype=np.float32).reshape(-1, 4)
    boxes[:, 0::2] -= np.float32(geometry.pad_left_px)
    boxes[:, 1::2] -= np.float32(geometry.pad_top_px)
    boxes[:, 0::2] /= np.float32(geometry.scale_x)
    boxes[:, 1::2] /= np.float32(geometry.scale_y)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, width_px)
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, height_px)
    return boxes


def to_letterboxed(boxes_px: FloatArray, geometry: Geometry) -> FloatArray:
    """Boxes (N, 4) x1 y1 x2 y2 of the original image, in pixels of the letterboxed one."""
    boxes = np.array(boxes_px, dtype=np.float32).reshape(-1, 4)
    boxes[:, 0::2] = boxes[:, 0::2] * np.float32(geometry.scale_x) + np.float32(geometry.pad_left_px)
    boxes[:, 1::2] = boxes[:, 1::2] * np.float32(geometry.scale_y) + np.float32(geometry.pad_top_px)
    return boxes


def _resize(image: ByteArray, height: int, width: int) -> ByteArray:
    import cv2

    resized: ByteArray = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized if resized.ndim == 3 else resized[..., None]


def decode(path: Path, channels: int) -> ByteArray | None:
    """uint8 [H, W, C], colours as OpenCV orders them (BGR); None if damaged. C is the file's unless 1 or 3 is asked."""
    import cv2

    flags = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)
    try:
        content = np.fromfile(path, np.uint8)
        if not content.size:
            return None
        suffix = path.suffix.lower()
        image = None
        if suffix in {".tif", ".tiff"} and channels != 1:
            image = _decode_tiff(content, channels)
        elif suffix in {".avif", ".heic", ".heif"}:
            image = _decode_with_pillow(path, channels)
        if image is None:
            image = cv2.imdecode(content, flags)
    except (OSError, cv2.error):
        return None
    if image is None:
        return None
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if image.dtype != np.uint8:  # floating-point numbers, of which nobody says what is white
        return None
    decoded: ByteArray = image if image.ndim == 3 else image[..., None]
    return decoded


def _decode_tiff(content: ByteArray, channels: int) -> ByteArray | None:
    """First page of a colour TIFF; for other than three channels all bands, or grey pages of one size stacked."""
    import cv2

    read, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
    if not read:
        return None
    first: ByteArray = pages[0]
    if first.ndim == 3:
        return first[..., :3] if channels == 3 else first
    if channels != 3 and len(pages) > 1 and all(page.shape == first.shape for page in pages):
        return np.stack(pages, axis=2)
    return None


def _decode_with_pillow(path: Path, channels: int) -> ByteArray | None:
    from PIL import Image, ImageOps, UnidentifiedImageError

    if path.suffix.lower() != ".avif":
        register_heif()
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture)
            pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    except (UnidentifiedImageError, ImportError):
        return None
    return pixels if channels == 1 else pixels[..., ::-1]
