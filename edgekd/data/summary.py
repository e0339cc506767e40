"""What a data set holds, per split: images, objects by class and size, copies, and what its user should know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekd.data import problems
from edgekd.data.labels import Checked
from edgekd.data.problems import ProblemLog

SMALL_BELOW_PX2, LARGE_FROM_PX2 = 32**2, 96**2  # COCO's limits, of the area of the box
_MANY_UNLABELLED = 0.1  # share of images without a label file from which a warning is due


@dataclass(frozen=True)
class SplitSummary:
    """One split, as it is used.

    Attributes:
        left_out: images that are listed and not used, since they or their labels are faulty.
        backgrounds: images without a box.
        without_labels: images without a label file, which count as backgrounds; None in layouts that have none.
        objects: boxes, crowds apart.
        crowds: crowd boxes, left out of training and ignored in AP.
        small, medium, large: objects by the area of their box: below 32^2 px, below 96^2 px, and above.
        objects_per_class: class name -> objects.
        copies: images with the content of an earlier one of the split.
        in_train: images with the content of one in train; None for train.
    """

    images: int
    left_out: int
    backgrounds: int
    without_labels: int | None
    objects: int
    crowds: int
    small: int
    medium: int
    large: int
    objects_per_class: Mapping[str, int]
    copies: int
    in_train: int | None
    content_hash: str

    def as_json(self) -> dict[str, Any]:
        """For RUN/data/split.json."""
        return asdict(self)


def summarise(checked: Mapping[str, Checked], class_names: Sequence[str], log: ProblemLog) -> dict[str, SplitSummary]:
    """One summary per split; copies go to `log`, with warnings about what does not fit together."""
    train = checked["train"]
    first = dict(zip(reversed(train.sha256), (image.file_name for image in reversed(train.split.images)), strict=True))
    summaries = {}
    for name, part in checked.items():
        copies = _copies(part, log)
        shared = None if part is train else _shared(part, first, log)
        summaries[name] = _summary(part, class_names, copies, shared)
    for sentence in _warnings(summaries):
        log.warn(sentence)
    return summaries


def _summary(part: Checked, class_names: Sequence[str], copies: int, shared: int | None) -> SplitSummary:
    images = part.split.images
    boxes_px = np.concatenate([np.zeros((0, 4), np.float32), *(image.boxes_px for image in images)])
    classes = np.concatenate([np.zeros(0, np.int64), *(image.class_ids for image in images)])
    crowd = np.concatenate([np.zeros(0, np.bool_), *(image.is_crowd for image in images)])
    sides_px = (boxes_px[:, 2:] - boxes_px[:, :2])[~crowd]
    sizes = np.digitize(sides_px.prod(axis=1), (SMALL_BELOW_PX2, LARGE_FROM_PX2))
    small, medium, large = np.bincount(sizes, minlength=3).tolist()
    per_class = np.bincount(classes[~crowd], minlength=len(class_names)).tolist()
    return SplitSummary(
        images=len(images),
        left_out=part.listed - len(images),
        backgrounds=sum(len(image.class_ids) == 0 for image in images),
        without_labels=part.without_labels,
        objects=len(sides_px),
        crowds=int(crowd.sum()),
        small=small, medium=medium, large=large,
        objects_per_class=dict(zip(class_names, per_class, strict=True)),
        copies=copies, in_train=shared, content_hash=part.split.content_hash,
    )  # fmt: skip


def _copies(part: Checked, log: ProblemLog) -> int:
    first: dict[str, str] = {}
    for sha256, image in zip(part.sha256, part.split.images, strict=True):
        if sha256 in first:
            log.add(part.split.name, problems.COPIED_IMAGE, f"{image.file_name} (as {first[sha256]})")
        first.setdefault(sha256, image.file_name)
    return len(part.sha256) - len(first)


def _shared(part: Checked, train: Mapping[str, str], log: ProblemLog) -> int:
    shared = 0
    for sha256, image in zip(part.sha256, part.split.images, strict=True):
        if sha256 in train:
            shared += 1
            log.add(part.split.name, problems.SHARED_IMAGE, f"{image.file_name} ({train[sha256]} of train)")
    return shared


def _warnings(summaries: Mapping[str, SplitSummary]) -> Iterator[str]:
    for name, found in summaries.items():
        if found.in_train and found.in_train == found.images:
            yield f"{name}: every image is in train as well, so AP on {name} does not show what the model has not seen"
        absent = [class_name for class_name, count in found.objects_per_class.items() if count == 0]
        if absent and name != "test":  # which is not used
            listed = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            yield f"{name}: {len(absent)} of {len(found.objects_per_class)} classes have no object: {listed}"
        if found.without_labels and found.without_labels >= _MANY_UNLABELLED * found.images:
            yield (
                f"{name}: {found.without_labels} of {found.images} images have no label file and count as background; "
                "add an empty label file to those that are, or check where the labels are"
            )
