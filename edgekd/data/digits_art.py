"""How one image of the embedded data set is drawn: a crop of a photograph, and digits blended onto it.

Pure functions of pixels and a random generator; `edgekd.data.digits` decides which pixels and where they go.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekd.types import ByteArray, IntArray

Box = tuple[int, int, int, int]

MASK_PX = 64
MAX_DIGITS = 6
SIZE_RANGE = (0.2, 0.6)  # side of the pasted digit as a share of the image: 19..58 px at 96
OPACITY_RANGE = (0.75, 1.0)
MAX_TURN_DEGREES = 25.0
MIN_INK = 24  # fainter ink (of 255) is left out, so that the box ends where the eye sees it end
MIN_CONTRAST = 90.0  # RGB distance of the ink to the mean of what it covers
MIN_INSIDE = 0.8  # share of the digit's box that lies in the image
MAX_COVER = 0.15  # overlap of two boxes as a share of the smaller one
_TRIES = 20


@dataclass(frozen=True)
class Scene:
    """One drawn image.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        boxes_px: x1 y1 x2 y2 of the ink in the image, whole pixels, the right and lower edge outside the ink.
        class_ids: one per box.
    """

    image: ByteArray
    boxes_px: tuple[Box, ...]
    class_ids: tuple[int, ...]


def smooth_mask(digit: ByteArray) -> ByteArray:
    """A digit of 8x8 pixels with ink 0..16, enlarged to [64, 64] opacity 0..255 with a smooth outline."""
    import cv2

    large = cv2.resize(digit.astype(np.float32), (MASK_PX, MASK_PX), interpolation=cv2.INTER_CUBIC)
    ramp = np.clip((large - 3.0) / 7.0, 0.0, 1.0)
    mask: ByteArray = np.rint(ramp * 255.0).astype(np.uint8)
    return mask


def background(photograph: ByteArray, imgsz: int, rng: np.random.Generator) -> ByteArray:
    """A random square crop of `photograph`, mirrored at random, brightness varied, as [imgsz, imgsz, 3]."""
    import cv2

    height, width = photograph.shape[:2]
    side = int(min(height, width) * rng.uniform(0.3, 1.0))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = photograph[top : top + side, left : left + side]
    interpolation = cv2.INTER_AREA if side > imgsz else cv2.INTER_CUBIC
    image = cv2.resize(crop, (imgsz, imgsz), interpolation=interpolation)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    bright = np.rint(image.astype(np.float32) * rng.uniform(0.7, 1.2))
    return np.ascontiguousarray(np.clip(bright, 0, 255).astype(np.uint8))


def paste_digits(
    canvas: ByteArray, masks: ByteArray, classes: IntArray, rng: np.random.Generator, *, most: int = MAX_DIGITS
) -> Scene:
    """Paste 1..`most` digits drawn from `masks` [N, 64, 64] on `canvas`; one that finds no free place is left out."""
    image = canvas.copy()
    boxes: list[Box] = []
    labels: list[int] = []
    for _ in range(int(rng.integers(1, most + 1))):
        chosen = int(rng.integers(len(masks)))
        alpha = turned(masks[chosen], rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES), _side(canvas.shape[0], rng))
        place = _free_place(alpha, image.shape[:2], boxes, rng)
        if place is None:
            continue
        box, ink = place
        patch = image[box[1] : box[3], box[0] : box[2]]
        blend(patch, ink, ink_colour(patch, rng), rng.uniform(*OPACITY_RANGE))
        boxes.append(box)
        labels.append(int(classes[chosen]))
    return Scene(image, tuple(boxes), tuple(labels))


def turned(mask: ByteArray, degrees: float, side_px: float) -> ByteArray:
    """`mask` rotated by `degrees`, scaled to `side_px`, cut to its ink: opacity 0 or at least MIN_INK."""
    import cv2

    room = int(np.ceil(side_px * 1.5))  # holds the square at any angle
    matrix = cv2.getRotationMatrix2D((MASK_PX / 2 - 0.5, MASK_PX / 2 - 0.5), degrees, side_px / MASK_PX)
    matrix[:, 2] += room / 2 - MASK_PX / 2
    alpha = cv2.warpAffine(mask, matrix, (room, room), flags=cv2.INTER_LINEAR)
    alpha[alpha < MIN_INK] = 0
    x1, y1, x2, y2 = ink_box(alpha)
    cut: ByteArray = alpha[y1:y2, x1:x2]
    return cut


def ink_box(alpha: ByteArray) -> Box:
    """Tight box of the non-zero pixels of `alpha` [H, W]."""
    columns, rows = np.flatnonzero(alpha.any(axis=0)), np.flatnonzero(alpha.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def blend(patch: ByteArray, alpha: ByteArray, colour: IntArray, opacity: float) -> None:
    """Blend `colour` (3,) into `patch` [h, w, 3] in place, by `alpha` [h, w] 0..255 times `opacity` 0..1."""
    share = (alpha.astype(np.float32) * np.float32(opacity / 255.0))[..., None]
    mixed = patch * (1.0 - share) + colour.astype(np.float32) * share
    patch[...] = np.rint(mixed).astype(np.uint8)


def ink_colour(patch: ByteArray, rng: np.random.Generator) -> IntArray:
    """A random colour (3,), MIN_CONTRAST away from the mean of `patch`; black or white if none is found."""
    mean = patch.reshape(-1, 3).mean(axis=0)
    for _ in range(_TRIES):
        colour = rng.integers(0, 256, size=3)
        if float(np.linalg.norm(colour - mean)) >= MIN_CONTRAST:
            return colour
    return np.full(3, 0 if mean.mean() > 127 else 255, dtype=np.int64)


def _side(image_px: int, rng: np.random.Generator) -> float:
    """Log-uniform, so that small digits are as frequent as large ones."""
    low, high = SIZE_RANGE
    return float(image_px * low * (high / low) ** rng.random())


def _free_place(
    alpha: ByteArray, size_px: tuple[int, ...], taken: list[Box], rng: np.random.Generator
) -> tuple[Box, ByteArray] | None:
    """A box of the visible ink and its opacity, at a random place that hides no other digit."""
    (height, width), (tall, wide) = size_px, alpha.shape
    for _ in range(_TRIES):
        # One axis may be cut by up to 1 - MIN_INSIDE; both together never exceed it.
        slack = (1.0 - MIN_INSIDE) / 2
        left = int(rng.integers(-int(wide * slack), width - wide + int(wide * slack) + 1))
        top = int(rng.integers(-int(tall * slack), height - tall + int(tall * slack) + 1))
        visible = alpha[max(0, -top) : height - top, max(0, -left) : width - left]
        x1, y1, x2, y2 = ink_box(visible)
        x0, y0 = max(0, left), max(0, top)
        box = (x0 + x1, y0 + y1, x0 + x2, y0 + y2)
        if all(_cover(box, other) <= MAX_COVER for other in taken):
            return box, visible[y1:y2, x1:x2]
    return None


def _cover(one: Box, two: Box) -> float:
    """Overlap of two boxes as a share of the smaller one's area."""
    wide = min(one[2], two[2]) - max(one[0], two[0])
    tall = min(one[3], two[3]) - max(one[1], two[1])
    if wide <= 0 or tall <= 0:
        return 0.0
    smallest = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return wide * tall / smallest
