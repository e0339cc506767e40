"""From what a layout's reader found to a `Split`: images and boxes are checked here, once for all layouts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekd.data import problems
from edgekd.data.images import ImageFacts, inspect_all
from edgekd.data.problems import ProblemLog
from edgekd.errors import InputError
from edgekd.types import GroundTruth, Split

ROUNDING_PX = 1.0  # a box may stick out of its image by this much and is clipped silently


@dataclass(frozen=True)
class RawBox:
    """One label as read.

    Attributes:
        where: for messages, e.g. `labels/a.txt:2`.
        class_id: index into the class names, already checked.
        corners: x1 y1 x2 y2, in pixels, or as shares of the image if `is_share`.
    """

    where: str
    class_id: int
    corners: tuple[float, float, float, float]
    is_crowd: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class RawImage:
    """One image as listed; `size_px` is (height, width) where the layout records it."""

    image_id: int
    path: Path
    boxes: tuple[RawBox, ...]
    size_px: tuple[int, int] | None = None


def assemble(
    split: str, images: Sequence[RawImage], image_dir: Path, *, channels: int, log: ProblemLog, cache: Path
) -> Split:
    """Check `images` against their files, and their boxes against the images; what is faulty goes to `log`.

    Raises:
        InputError: the split has no images, or no label at all.
        EnvironmentFault: `cache` cannot be written.
    """
    where = f"{log.sources[split]}: {split}"
    if not images:
        raise InputError(f"{where}: no images under {image_dir}; check the path")
    if not any(image.boxes for image in images):
        raise InputError(f"{where}: none of its {len(images)} images has a usable label; check where the labels are")
    facts = inspect_all([image.path for image in images], channels, cache, title=f"{split} images")
    digest = hashlib.sha256()
    kept = []
    for image, fact in sorted(zip(images, facts, strict=True), key=lambda pair: pair[0].image_id):
        if not _usable(split, image, fact, image_dir, log):
            continue
        truth = _ground_truth(split, image, fact, image_dir, log)
        digest.update(_digest_of(truth, fact).encode())
        kept.append(truth)
    return Split(name=split, image_dir=str(image_dir), images=tuple(kept), content_hash=digest.hexdigest())


def require_content(split: Split, log: ProblemLog) -> None:
    """Refuse a split of which nothing is left after the faulty parts were skipped.

    Raises:
        InputError: no image or no label is left.
    """
    if not split.images:
        raise InputError(f"{log.sources[split.name]}: {split.name}: every image was skipped as faulty; mend the data")
    if not any(len(image.class_ids) for image in split.images):
        raise InputError(f"{log.sources[split.name]}: {split.name}: every label was skipped as faulty; mend the data")


def _usable(split: str, image: RawImage, fact: ImageFacts, image_dir: Path, log: ProblemLog) -> bool:
    name = relative(image.path, image_dir)
    if fact.fault:
        log.add(split, fact.fault, f"{name} ({fact.detail})" if fact.detail else name)
        return False
    if image.size_px is not None and image.size_px != (fact.height_px, fact.width_px):
        height, width = image.size_px
        found = f"{fact.width_px}x{fact.height_px} after EXIF rotation"
        log.add(split, problems.SIZE_DIFFERS, f"{name} (recorded {width}x{height}, is {found})")
        return False
    return True


def _ground_truth(split: str, image: RawImage, fact: ImageFacts, image_dir: Path, log: ProblemLog) -> GroundTruth:
    kept: list[tuple[RawBox, tuple[float, float, float, float]]] = []
    for box in image.boxes:
        corners = _checked_corners(split, box, fact, log)
        if corners is not None:
            kept.append((box, corners))
    return GroundTruth(
        image_id=image.image_id,
        file_name=relative(image.path, image_dir),
        height_px=fact.height_px,
        width_px=fact.width_px,
        boxes_px=np.array([corners for _, corners in kept], dtype=np.float32).reshape(-1, 4),
        class_ids=np.array([box.class_id for box, _ in kept], dtype=np.int64),
        is_crowd=np.array([box.is_crowd for box, _ in kept], dtype=np.bool_),
    )


def _checked_corners(
    split: str, box: RawBox, fact: ImageFacts, log: ProblemLog
) -> tuple[float, float, float, float] | None:
    """Corners in pixels, inside the image; None for a box that is reported instead."""
    height, width = fact.height_px, fact.width_px
    x1, y1, x2, y2 = box.corners
    if box.is_share:
        x1, y1, x2, y2 = x1 * width, y1 * height, x2 * width, y2 * height
    shown = f"{box.where} ({x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f} in {width}x{height})"
    if not (x2 > x1 and y2 > y1):
        log.add(split, problems.NO_AREA, shown)
        return None
    if max(-x1, -y1, x2 - width, y2 - height) > ROUNDING_PX:
        log.add(split, problems.OUTSIDE, shown)
        return None
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if not (x2 > x1 and y2 > y1):  # it lay wholly in the margin
        log.add(split, problems.NO_AREA, shown)
        return None
    return x1, y1, x2, y2


def relative(path: Path, folder: Path) -> str:
    """`path` below `folder`, with forward slashes."""
    return path.relative_to(folder).as_posix()


def finite(value: object) -> float | None:
    """`value` as a finite number, or None. A bool is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _digest_of(truth: GroundTruth, fact: ImageFacts) -> str:
    """One line per image with everything that the content hash covers."""
    labels = (truth.boxes_px.tolist(), truth.class_ids.tolist(), truth.is_crowd.tolist())
    return f"{truth.image_id} {truth.file_name!r} {truth.height_px} {truth.width_px} {fact.sha256} {labels}\n"
