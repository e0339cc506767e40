"""What a detector's errors are, and how much AP each kind costs.

TIDE: A General Toolbox for Identifying Object Detection Errors, Bolya et al., ECCV 2020, arXiv 2008.08115.
Code: github.com/dbolya/tide.

At IoU 0.5 a detection that finds no object of its own is an error of the first kind that fits:

    localisation    0.1 <= IoU <= 0.5 with an object of its class
    classification  IoU >= 0.5 with an object of another class
    duplicate       IoU >= 0.5 with an object of its class that a better one has found
    background      IoU <= 0.1 with every object
    both            whatever is left: wrong class and wrong place

and an object that was not found is missed, unless an error of the first two kinds would find it. A kind's cost is the
AP at IoU 0.5 that is gained by mending this kind alone: of the detections with a wrong class or place the best one of
each object that nothing has found becomes right, all others go; duplicates, background and both go; missed objects
count no more. Costs do not add up.

Differs from the official code: classes without any object have no part, as in COCO's AP, and detections in a crowd
region are no errors (there they are counted); AP is in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from edgekd.measure.boxes import FloatMatrix, areas_px2, intersections_px2, ious, share
from edgekd.types import Detections, FloatArray, GroundTruth

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
MAX_DETECTIONS = 100  # of an image, the best ones; as in the official code

_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(len(KINDS))
_RIGHT = -1
_RECALLS = np.linspace(0, 1, 101)
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ErrorBreakdown:
    """The errors of a split's detections.

    Attributes:
        ap50: AP at IoU 0.5 of the same detections, from which the costs are counted.
        counts: kind -> errors.
        costs: kind -> AP at IoU 0.5 that mending this kind alone would add, in 0..1.
    """

    ap50: float
    counts: dict[str, int]
    costs: dict[str, float]


@dataclass(frozen=True)
class _Judged:
    """Detections, best of their image first, with crowds' left out; and objects that were not found.

    Attributes:
        scores: (N,).
        class_ids: (N,).
        kinds: (N,) index into `KINDS`, -1 where right.
        mended_ids: (N,) the class in which an error becomes right; -1 where it goes.
        missed_ids: (M,) classes of the objects that no error would find.
    """

    scores: FloatMatrix
    class_ids: Ints
    kinds: Ints
    mended_ids: Ints
    missed_ids: Ints


def error_breakdown(
    ground_truth: Sequence[GroundTruth], detections: Mapping[int, Detections], classes: int
) -> ErrorBreakdown:
    """The breakdown of detections.

    Args:
        ground_truth: every image of the split, those without boxes included.
        detections: image id -> detections; an image that is missing has none.
        classes: how many there are.
    """
    objects = np.zeros(classes, np.int64)
    for image in ground_truth:
        np.add.at(objects, image.class_ids[~image.is_crowd], 1)
    judged = _joined([_judge(image, detections.get(image.image_id)) for image in ground_truth])
    before = _mean_ap(judged.scores, judged.class_ids, judged.kinds == _RIGHT, objects, objects)
    counts = np.bincount(judged.kinds[judged.kinds >= 0], minlength=len(KINDS))
    counts[_MISSED] = len(judged.missed_ids)
    costs = {kind: max(_mended(judged, index, objects) - before, 0.0) for index, kind in enumerate(KINDS)}
    return ErrorBreakdown(before, dict(zip(KINDS, counts.tolist(), strict=True)), costs)


def _judge(truth: GroundTruth, found: Detections | None) -> _Judged:
    """The outcome for one image."""
    objects = ~truth.is_crowd
    boxes, class_ids = truth.boxes_px[objects], truth.class_ids[objects].astype(np.int64)
    if found is None or not len(found.scores):
        none = np.zeros(0, np.int64)
        return _Judged(np.zeros(0), none, none, none, class_ids)
    best = np.argsort(-found.scores, kind="stable")[:MAX_DETECTIONS]
    own, scores = found.class_ids[best].astype(np.int64), found.scores[best].astype(np.float64)
    overlaps = ious(found.boxes_px[best], boxes)
    same = own[:, None] == class_ids
    right, taken = _matched(overlaps * same)
    counted = right | ~_in_crowd(found.boxes_px[best], own, truth)
    kinds, targets = _kinds(overlaps, same, right, taken)
    claims = counted & (targets >= 0)
    claims[claims] = ~taken[targets[claims]]
    first = np.zeros(len(own), np.bool_)
    first[np.flatnonzero(claims)[np.unique(targets[claims], return_index=True)[1]]] = True  # the best of each object
    mended_ids = np.where(first, class_ids[targets] if len(class_ids) else -1, -1)
    missed = ~taken
    missed[targets[claims]] = False
    return _Judged(scores[counted], own[counted], kinds[counted], mended_ids[counted], class_ids[missed])


def _matched(overlaps: FloatMatrix) -> tuple[Flags, Flags]:
    """(N,) detections, best first, that got an object of their class, and (M,) objects that are taken so."""
    free = overlaps.copy()
    right, taken = np.zeros(free.shape[0], np.bool_), np.zeros(free.shape[1], np.bool_)
    for row in np.flatnonzero((free >= FOREGROUND_IOU).any(1)):
        nearest = int(free[row].argmax())
        if free[row, nearest] >= FOREGROUND_IOU:
            right[row] = taken[nearest] = True
            free[:, nearest] = 0
    return right, taken


def _kinds(overlaps: FloatMatrix, same: Flags, right: Flags, taken: Flags) -> tuple[Ints, Ints]:
    """(N,) kind of each detection, and the object that it would find with another class or place; -1: none."""
    nowhere = np.full(len(right), -1, np.int64)
    if not overlaps.shape[1]:
        return np.full(len(right), _BACKGROUND, np.int64), nowhere
    of_class, of_others = overlaps * same, overlaps * ~same
    near, wrong = of_class.max(1), of_others.max(1)
    is_near = (near >= BACKGROUND_IOU) & (near <= FOREGROUND_IOU)
    is_wrong = wrong >= FOREGROUND_IOU
    is_second = (of_class * taken).max(1) >= FOREGROUND_IOU
    kinds = np.select(
        [right, is_near, is_wrong, is_second, overlaps.max(1) <= BACKGROUND_IOU],
        [_RIGHT, _LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BACKGROUND], _BOTH,
    )  # fmt: skip
    targets = np.select(
        [kinds == _LOCALISATION, kinds == _CLASSIFICATION], [of_class.argmax(1), of_others.argmax(1)], nowhere
    )
    return kinds.astype(np.int64), targets.astype(np.int64)


def _in_crowd(boxes: FloatArray, class_ids: Ints, truth: GroundTruth) -> Flags:
    """(N,) whether more than half of a detection lies in a crowd region of its class."""
    crowds = truth.is_crowd
    shared = intersections_px2(boxes, truth.boxes_px[crowds])
    shares = share(shared, np.broadcast_to(areas_px2(boxes)[:, None], shared.shape))
    inside: Flags = ((shares > FOREGROUND_IOU) & (class_ids[:, None] == truth.class_ids[crowds])).any(1)
    return inside


def _mended(judged: _Judged, kind: int, objects: Ints) -> float:
    """The AP without the errors of one kind."""
    left = objects - np.bincount(judged.missed_ids, minlength=len(objects)) if kind == _MISSED else objects
    mended = (judged.kinds == kind) & (judged.mended_ids >= 0)
    right = (judged.kinds == _RIGHT) | mended
    class_ids = np.where(mended, judged.mended_ids, judged.class_ids)
    stay = (judged.kinds != kind) | mended
    return _mean_ap(judged.scores[stay], class_ids[stay], right[stay], left, objects)


def _mean_ap(scores: FloatMatrix, class_ids: Ints, right: Flags, left: Ints, objects: Ints) -> float:
    """Mean over the classes that have objects, `left` of which are to be found.

    A class that has neither detections nor objects left has no part.
    """
    aps = []
    for class_id in np.flatnonzero(objects):
        of_class = class_ids == class_id
        if left[class_id] or of_class.any():
            order = np.argsort(-scores[of_class], kind="stable")
            aps.append(_ap(right[of_class][order], int(left[class_id])))
    return float(np.mean(aps)) if aps else 0.0


def _ap(right: Flags, objects: int) -> float:
    """COCO's mean over 101 points of recall of the best precision from there on; detections best first."""
    if not objects or not len(right):
        return 0.0
    hits = np.cumsum(right)
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    places = np.searchsorted(hits / objects, _RECALLS, side="left")
    reached = places < len(precision)
    return float(np.where(reached, precision[np.minimum(places, len(precision) - 1)], 0.0).mean())


def _joined(images: Sequence[_Judged]) -> _Judged:
    """All images as one."""
    none = np.zeros(0, np.int64)
    first = _Judged(np.zeros(0), none, none, none, none)
    return _Judged(*(np.concatenate([getattr(one, field.name) for one in (first, *images)]) for field in fields(first)))
