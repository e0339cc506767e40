"""Teachers that are files of detections, on the images of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgekd.agent.postprocess import postprocess
from edgekd.data.config import CocoData
from edgekd.data.unlabelled import NAME as UNLABELLED
from edgekd.detectors.contract import Recorded
from edgekd.distill.config import MAIN
from edgekd.errors import InputError
from edgekd.progress import say
from edgekd.stages.accuracy import in_data_classes
from edgekd.stages.context import Context
from edgekd.types import Detections, FloatArray, Split


def require_recorded(context: Context) -> None:
    """Refuse files of detections that are of other images or classes, or of fewer splits than are looked at.

    Raises:
        InputError: one line per problem.
    """
    problems = []
    for name, side in context.pair.teachers.items():
        if isinstance(side.detector, Recorded):
            rows = _rows(context, side.detector)
            problems += [
                f"{side.detector.source}: holds no detection on any of the "
                f"{len(rows[split]):,} images of {split}, which are looked at; give a file of these images, whose "
                "image_id is COCO's, or the file's name without its suffix"
                for split in _looked_at(context, name)
                if not any(map(len, rows[split]))
            ]
    if problems:
        raise InputError(*problems)


def recorded_on(
    context: Context, detector: Recorded, split: str, columns: np.ndarray[Any, Any] | None
) -> list[Detections]:
    """What a file has on a split, in order: above the recipe's least score, as many per image as it allows.

    Args:
        split: of the data, or `unlabelled`.
        columns: (K,) classes of the file per class of the data, -1 for one that it does not know; None: the same.
    """
    settings, rows = context.bound.recipe.validate_, _rows(context, detector)[split]
    silent = sum(not len(one) for one in rows)
    if silent:
        say(f"note: {detector.spec.name} has no detection on {silent:,} of {len(rows):,} images of {split}")
    found = []
    for one in rows:
        raw = [one] if columns is None else in_data_classes([one], columns)
        boxes, scores, classes = postprocess(raw, settings.conf, settings.iou, settings.max_det)
        found.append(Detections(boxes, scores, classes))
    return found


def _looked_at(context: Context, teacher: str) -> list[str]:
    """Splits on which a teacher's detections are wanted. On test only the first teacher is measured."""
    asked = context.bound.data.unlabelled
    first = teacher == MAIN
    test = ["test"] if first and "test" in context.data.splits else []
    return ["val", *test, *([UNLABELLED] if first and asked is not None and asked.labels == "teacher" else [])]


def _rows(context: Context, detector: Recorded) -> dict[str, list[FloatArray]]:
    data = context.data
    splits: Mapping[str, Split] = data.splits
    if data.unlabelled is not None:
        splits = {**splits, UNLABELLED: data.unlabelled.split}
    numbered = set(data.splits) if isinstance(context.bound.data, CocoData) else set()
    return detector.on(splits, numbered, data.category_ids)
