"""Which train images quantisation looks at: some to find the ranges of values, others to measure what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekd.atomic import sha256_json
from edgekd.errors import InputError
from edgekd.types import GroundTruth, Split

MOST_ACCURACY_IMAGES = 400
_SEED = 8  # any: the same images each time, in an order that has nothing to do with that of the files


def accuracy_split(train: Split) -> Split:
    """The labelled images that an artifact's AP is measured on: 400, or half of a smaller split.

    Raises:
        InputError: fewer than two images, or no object on those that were chosen.
    """
    if len(train.images) < 2:
        raise InputError(
            f"{train.name}: has {len(train.images)} images; quantisation needs some to calibrate on and others to "
            "measure its cost on; add images, or export in fp32 or fp16"
        )
    chosen = _subset(train, "accuracy", _order(train)[: _accuracy_count(train)])
    if not any(len(truth.boxes_px) and not truth.is_crowd.all() for truth in chosen.images):
        raise InputError(
            f"{train.name}: no object on the {len(chosen.images)} images that the cost of quantisation would be "
            "measured on; label more images, or export in fp32 or fp16"
        )
    return chosen


def calibration_split(train: Split, count: int) -> Split:
    """`count` images of the train split, none of which is in `accuracy_split`.

    Raises:
        InputError: there are not as many.
    """
    left = _order(train)[_accuracy_count(train) :]
    if count > len(left):
        advice = f"set calibration_images to at most {len(left)}, or " if left else ""
        raise InputError(
            f"{train.name}: {count} images to calibrate on were asked for, and of {len(train.images)} images "
            f"{len(left)} are free for it (the others measure the cost); {advice}add images"
        )
    return _subset(train, "calibration", left[:count])


def _accuracy_count(train: Split) -> int:
    return min(MOST_ACCURACY_IMAGES, len(train.images) // 2)


def _order(train: Split) -> list[int]:
    order: list[int] = np.random.default_rng(_SEED).permutation(len(train.images)).tolist()
    return order


def _subset(train: Split, name: str, chosen: Sequence[int]) -> Split:
    images: list[GroundTruth] = [train.images[index] for index in sorted(chosen)]
    ids = [image.image_id for image in images]
    return Split(name, train.image_dir, images, sha256_json({"of": train.content_hash, "image_ids": ids}))
