"""From what a layout's reader found to a `Split`: images and boxes are checked here, once for all layouts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgekd.data import problems
from edgekd.data.diagnosis import narrow
from edgekd.data.images import ImageFacts, inspect_all
from edgekd.data.problems import ProblemLog
from edgekd.types import GroundTruth, Split

ROUNDING_PX = 1.0  # a box may stick out of its image by this much and is clipped silently
MIN_INSIDE = 0.5  # share of a box's area: one that sticks out further may be clipped if so much of it is inside
_DARK_HIGH_BYTE = 15  # of 255: the largest one of 12 bits in 16

Corners = tuple[float, float, float, float]


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
    corners: Corners
    is_crowd: bool = False
    is_share: bool = False


@dataclass(frozen=True)
class RawImage:
    """One image as listed.

    Attributes:
        size_px: (height, width) where the layout records it.
        faulty: a label of it is, and is reported already.
        has_labels: whether there is a label file; None where the layout has none.
    """

    image_id: int
    path: Path
    boxes: tuple[RawBox, ...]
    size_px: tuple[int, int] | None = None
    faulty: bool = False
    has_labels: bool | None = None


@dataclass(frozen=True)
class Checked:
    """A split with what its labels do not tell.

    Attributes:
        sha256: of each image's file, in the order of `split.images`.
        listed: images that the layout lists, usable or not.
        has_labels: whether there is a label, sound or faulty.
        missing: images whose file does not exist.
        without_labels: usable images without a label file; None where the layout has none.
    """

    split: Split
    sha256: tuple[str, ...]
    listed: int
    has_labels: bool
    missing: int
    without_labels: int | None

    @property
    def is_absent(self) -> bool:
        """No file or no label is there, as where the split was never made."""
        return not self.has_labels or self.missing == self.listed


def assemble(
    split: str, images: Sequence[RawImage], image_dir: Path, *, listed: int, channels: int, log: ProblemLog, cache: Path
) -> Checked:
    """Check `images` against their files, and their boxes against the images; what is faulty goes to `log`.

    Where no image has a label, the files are only looked for: nothing can be done with them.

    Args:
        listed: images that the layout lists, those with a faulty record included.

    Raises:
        EnvironmentFault: `cache` cannot be written.
    """
    has_labels = any(image.boxes or image.faulty for image in images)
    facts = _facts(split, images, has_labels, channels, cache)
    kept: list[tuple[RawImage, GroundTruth, ImageFacts]] = []
    for image, fact in sorted(zip(images, facts, strict=True), key=lambda pair: pair[0].image_id):
        if _usable(split, image, fact, image_dir, log) and has_labels:
            truth = _ground_truth(split, image, fact, image_dir, log)
            if truth is not None:
                kept.append((image, truth, fact))
    digest = hashlib.sha256()
    for _, truth, fact in kept:
        digest.update(_digest_of(truth, fact).encode())
    without = [image for image, _, _ in kept if image.has_labels is False]
    return Checked(
        Split(split, str(image_dir), tuple(truth for _, truth, _ in kept), digest.hexdigest()),
        sha256=tuple(fact.sha256 for _, _, fact in kept),
        listed=listed,
        has_labels=has_labels,
        missing=sum(fact.fault == problems.MISSING_IMAGE for fact in facts),
        without_labels=None if any(image.has_labels is None for image in images) else len(without),
    )


def content_fault(checked: Checked) -> str:
    """Why nothing can be trained or measured on a split, or ""."""
    split = checked.split
    if not checked.listed:
        return f"no images under {split.image_dir}; check the path"
    if not checked.has_labels:
        return f"none of its {checked.listed} images has a usable label; check where the labels are"
    if not split.images:
        return f"none of its {checked.listed} images is left; mend the data"
    if not any(len(image.class_ids) for image in split.images):
        return f"no box is left on its {len(split.images)} images; mend the data"
    if all(image.is_crowd.all() for image in split.images):
        return "all of its boxes are crowds (iscrowd: 1), which are not trained and not counted in AP; label objects"
    return ""


def _facts(split: str, images: Sequence[RawImage], has_labels: bool, channels: int, cache: Path) -> list[ImageFacts]:
    if not has_labels:
        there = (image.path.exists() for image in images)
        return [ImageFacts("", 0, 0, "" if exists else problems.MISSING_IMAGE) for exists in there]
    facts = inspect_all([image.path for image in images], channels, cache, title=f"{split} images")
    high_bytes = [fact.high_byte for fact in facts if fact.high_byte is not None]
    if max(high_bytes, default=255) > _DARK_HIGH_BYTE:  # one dark image among others is a dark image
        return facts
    return [
        fact if fact.high_byte is None else replace(fact, fault=problems.DARK_IMAGE, detail=narrow(fact.high_byte))
        for fact in facts
    ]


def _usable(split: str, image: RawImage, fact: ImageFacts, image_dir: Path, log: ProblemLog) -> bool:
    name = relative(image.path, image_dir)
    if fact.fault:
        log.add(split, fact.fault, f"{name} ({fact.detail})" if fact.detail else name)
        return False
    if fact.sha256 and image.size_px is not None and image.size_px != (fact.height_px, fact.width_px):
        height, width = image.size_px
        found = f"{fact.width_px}x{fact.height_px} after EXIF rotation"
        log.add(split, problems.SIZE_DIFFERS, f"{name} (recorded {width}x{height}, is {found})")
        return False
    return True


def _ground_truth(
    split: str, image: RawImage, fact: ImageFacts, image_dir: Path, log: ProblemLog
) -> GroundTruth | None:
    """None for an image of which an object is not known: it would be taught as background."""
    kept: list[tuple[RawBox, Corners]] = []
    faulty = image.faulty
    for box in image.boxes:
        shape = _shape(box, fact)
        fault, corners = _checked(shape, fact)
        if fault:
            x1, y1, x2, y2 = shape
            shown = f"{box.where} ({x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f} in {fact.width_px}x{fact.height_px})"
            log.add(split, fault, shown)
        faulty |= fault == problems.OUTSIDE
        if corners is not None:
            kept.append((box, corners))
    if faulty:
        return None
    return GroundTruth(
        image_id=image.image_id,
        file_name=relative(image.path, image_dir),
        height_px=fact.height_px,
        width_px=fact.width_px,
        boxes_px=np.array([corners for _, corners in kept], dtype=np.float32).reshape(-1, 4),
        class_ids=np.array([box.class_id for box, _ in kept], dtype=np.int64),
        is_crowd=np.array([box.is_crowd for box, _ in kept], dtype=np.bool_),
    )


def _shape(box: RawBox, fact: ImageFacts) -> Corners:
    """Corners in pixels, as given."""
    x1, y1, x2, y2 = box.corners
    if not box.is_share:
        return box.corners
    return x1 * fact.width_px, y1 * fact.height_px, x2 * fact.width_px, y2 * fact.height_px


def _checked(shape: Corners, fact: ImageFacts) -> tuple[str, Corners | None]:
    """(fault or "", corners inside the image or None)."""
    height, width = fact.height_px, fact.width_px
    x1, y1, x2, y2 = shape
    if not (x2 > x1 and y2 > y1):
        return problems.NO_AREA, None
    excess_px = max(-x1, -y1, x2 - width, y2 - height)
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    wide, tall = inside[2] - inside[0], inside[3] - inside[1]
    if excess_px > ROUNDING_PX:
        share = max(wide, 0.0) / (x2 - x1) * (max(tall, 0.0) / (y2 - y1))  # each first: areas may overflow
        return (problems.STICKS_OUT, inside) if share >= MIN_INSIDE else (problems.OUTSIDE, None)
    if not (wide > 0 and tall > 0):  # it lay wholly in the margin
        return problems.NO_AREA, None
    return "", inside


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
