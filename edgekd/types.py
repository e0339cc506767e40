"""Values that several rooms share. Arrays only; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Detections:
    """Detections of one image, best score first.

    Attributes:
        boxes_px: (N, 4) float32, x1 y1 x2 y2 in pixels of the original image.
        scores: (N,) float32 in 0..1.
        class_ids: (N,) int64, index into the data set's class names.
    """

    boxes_px: FloatArray
    scores: FloatArray
    class_ids: IntArray


@dataclass(frozen=True)
class GroundTruth:
    """Labels of one image.

    Attributes:
        image_id: unique in its split, as COCO's `image_id`.
        file_name: the image's path relative to the split's image folder.
        height_px, width_px: size of the image after EXIF rotation.
        boxes_px: (N, 4) float32, x1 y1 x2 y2 in pixels.
        class_ids: (N,) int64.
        is_crowd: (N,) bool; crowd boxes are ignored in AP and left out of training.
    """

    image_id: int
    file_name: str
    height_px: int
    width_px: int
    boxes_px: FloatArray
    class_ids: IntArray
    is_crowd: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AveragePrecision:
    """AP in 0..1. A value is None where no ground truth of that size or class exists.

    Attributes:
        ap: mean over IoU 0.50:0.95 and classes (COCO AP).
        ap50, ap75: at one IoU.
        ap_small, ap_medium, ap_large: by area of the ground truth (COCO limits 32^2 and 96^2 px).
        per_class: class name -> AP.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    per_class: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """One split of a data set: its labels in a fixed order and where its images lie.

    Attributes:
        name: train, val or test.
        image_dir: folder that `GroundTruth.file_name` is relative to.
        images: labels, one per image, ordered by `image_id`.
        content_hash: sha256 over labels and image bytes' hashes.
    """

    name: str
    image_dir: str
    images: Sequence[GroundTruth]
    content_hash: str
