"""Average precision by COCO's rules, and precision and recall at one operating threshold.

AP is computed by hotcoco, whose figures are pycocotools' to the last bit: IoU 0.50:0.95, 101 recall points, the best
100 detections per image *and class* (`maxDets` [1, 10, 100]), crowd boxes ignored. The area of an object is that of its
box; COCO's own annotations give the area of the mask, so sizes may differ there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.measure.boxes import FloatMatrix, areas_px2, intersections_px2, ious, share
from edgekd.types import AveragePrecision, Detections, FloatArray, GroundTruth


@dataclass(frozen=True)
class OperatingPoint:
    """Micro-averages over all images and classes at one score threshold; 0 where the denominator is 0.

    Attributes:
        threshold: detections of at least this score count.
        precision, recall, f1: 0..1.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def evaluate(
    ground_truth: Sequence[GroundTruth], detections: Mapping[int, Detections], class_names: Sequence[str]
) -> AveragePrecision:
    """AP of detections.

    Args:
        ground_truth: every image of the split, those without boxes included.
        detections: image id -> detections; an image that is missing has none.
        class_names: index = class id.

    Raises:
        InputError: no ground truth to compare with, detections of an image or class that is not in it, or a score that
            is not a number.
    """
    evaluation = _evaluation(ground_truth, detections, class_names)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # (10 IoUs, 101 recalls, classes, areas) at 100 detections
    if not (precision[..., 0] > -1).any():
        raise InputError("average precision: the ground truth holds no box to detect; check the split's labels")
    whole = precision[..., 0]
    small, medium, large = (_mean(precision[..., area]) for area in range(1, 4))
    return AveragePrecision(
        ap=_mean(whole) or 0.0,
        ap50=_mean(whole[0]) or 0.0,
        ap75=_mean(whole[5]) or 0.0,
        ap_small=small,
        ap_medium=medium,
        ap_large=large,
        per_class={name: _mean(whole[:, :, index]) for index, name in enumerate(class_names)},
    )


def match(
    ground_truth: Sequence[GroundTruth], detections: Mapping[int, Detections], class_names: Sequence[str]
) -> list[list[dict[str, Any]]]:
    """Who matched whom, before any averaging, whatever the size.

    Returns:
        Per class one mapping for each image with objects or detections, by image id, in the form of COCOeval's
        `evalImgs`; `image_id` is the rank of the image among the ids, `dtMatched` (IoUs, detections) says which
        detections found an object.

    Raises:
        InputError: as `evaluate`.
    """
    evaluation = _evaluation(ground_truth, detections, class_names)
    limits = evaluation.params
    limits.areaRng, limits.areaRngLbl, limits.maxDets = limits.areaRng[:1], limits.areaRngLbl[:1], limits.maxDets[-1:]
    evaluation.evaluate()
    per_class: list[list[dict[str, Any]]] = [[] for _ in class_names]
    with _without_garbage_collection():
        for one in evaluation.evalImgs:
            if one is not None:
                per_class[one["category_id"]].append(one)
    for found in per_class:
        found.sort(key=lambda one: one["image_id"])
    return per_class


def _evaluation(
    ground_truth: Sequence[GroundTruth], detections: Mapping[int, Detections], class_names: Sequence[str]
) -> Any:
    """An evaluation that waits for its start. Images are numbered by the rank of their ids, classes from 0."""
    import hotcoco

    ranks = {image_id: rank for rank, image_id in enumerate(sorted(image.image_id for image in ground_truth))}
    _refuse_strangers(detections, ranks, len(class_names))
    boxes = _xywh([image.boxes_px for image in ground_truth])
    truth = hotcoco.COCO.from_arrays(
        [{"id": ranks[one.image_id], "height": one.height_px, "width": one.width_px} for one in ground_truth],
        [{"id": class_id, "name": name} for class_id, name in enumerate(class_names)],
        np.repeat([ranks[image.image_id] for image in ground_truth], [len(image.boxes_px) for image in ground_truth]),
        _joined([image.class_ids for image in ground_truth], np.int64),
        boxes,
        area=boxes[:, 2] * boxes[:, 3],
        iscrowd=_joined([image.is_crowd for image in ground_truth], np.bool_),
    )
    rows = np.column_stack([
        np.repeat([ranks[image_id] for image_id in detections], [len(one.scores) for one in detections.values()]),
        _xywh([one.boxes_px for one in detections.values()]),
        _joined([one.scores for one in detections.values()], np.float64),
        _joined([one.class_ids for one in detections.values()], np.float64),
    ])  # fmt: skip
    return hotcoco.COCOeval(truth, truth.load_res(rows), "bbox")


def operating_point(
    ground_truth: Sequence[GroundTruth],
    detections: Mapping[int, Detections],
    threshold: float,
    iou: float = 0.5,
) -> OperatingPoint:
    """Precision, recall and F1 of the detections that score at least `threshold`.

    Per image and class the best-scoring detection chooses first, among the boxes not yet taken, the one it overlaps
    most, if the IoU is at least `iou`. A detection left over counts as false unless at least `iou` of its own area lies
    in a crowd box of its class; crowd boxes themselves are not looked for.
    """
    hits = false_alarms = objects = 0
    for image in ground_truth:
        objects += int(np.count_nonzero(~image.is_crowd))
        found = detections.get(image.image_id)
        if found is None:
            continue
        keep = found.scores >= threshold
        for class_id in np.unique(found.class_ids[keep]):
            chosen = keep & (found.class_ids == class_id)
            best_first = np.argsort(-found.scores[chosen], kind="stable")
            boxes = found.boxes_px[chosen][best_first]
            same = image.class_ids == class_id
            matched = _greedy(boxes, image.boxes_px[same & ~image.is_crowd], iou)
            in_crowd = _covered(boxes, image.boxes_px[same & image.is_crowd], iou)
            hits += int(matched.sum())
            false_alarms += int((~matched & ~in_crowd).sum())
    precision = hits / max(hits + false_alarms, 1)
    recall = hits / max(objects, 1)
    f1 = 2 * hits / max(hits + false_alarms + objects, 1)
    return OperatingPoint(threshold, precision, recall, f1)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Tens of thousands of small dicts set off full collections, each a walk through all that torch has imported."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _refuse_strangers(detections: Mapping[int, Detections], ranks: Mapping[int, int], classes: int) -> None:
    images = [image_id for image_id in detections if image_id not in ranks]
    named = np.unique(_joined([found.class_ids for found in detections.values()], np.int64))
    problems = [
        f"average precision: detections of {len(strange)} {kind} that the ground truth does not have ({key} "
        f"{', '.join(map(str, sorted(strange)[:5]))}); evaluate them against the split that they were made on"
        for kind, key, strange in (
            ("images", "image_id", images),
            ("classes", "class id", named[(named < 0) | (named >= classes)].tolist()),
        )
        if strange
    ]
    unscored = [image_id for image_id, found in detections.items() if np.isnan(found.scores).any()]
    if unscored:
        problems.append(
            f"average precision: {len(unscored)} images have detections whose score is not a number (image_id "
            f"{', '.join(map(str, sorted(unscored)[:5]))}); nothing can be ranked by it: the model is broken"
        )
    if problems:
        raise InputError(*problems)


def _mean(precision: FloatMatrix) -> float | None:
    """Mean over what COCO defines; it marks classes and sizes without ground truth by -1."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _xywh(boxes_px: Sequence[FloatArray]) -> FloatMatrix:
    """Corners, per image, to x y width height of all, in float64."""
    corners = _joined(boxes_px, np.float64).reshape(-1, 4)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: Any) -> npt.NDArray[Any]:
    """One array of all parts, which may be none."""
    return np.concatenate([np.zeros(0, dtype), *(np.asarray(part).ravel() for part in parts)], dtype=dtype)


def _greedy(boxes: FloatArray, objects: FloatArray, least_iou: float) -> npt.NDArray[np.bool_]:
    """(N,) whether each box, best first, got an object of its own."""
    matched = np.zeros(len(boxes), np.bool_)
    if not len(objects):
        return matched
    free = ious(boxes, objects)
    for row, overlaps in enumerate(free):
        nearest = int(overlaps.argmax())
        if overlaps[nearest] >= least_iou:
            matched[row] = True
            free[:, nearest] = -1
    return matched


def _covered(boxes: FloatArray, crowds: FloatArray, least_share: float) -> npt.NDArray[np.bool_]:
    """(N,) whether at least a share of each box lies in one crowd box."""
    if not len(crowds):
        return np.zeros(len(boxes), np.bool_)
    covered: npt.NDArray[np.bool_] = share(intersections_px2(boxes, crowds).max(-1), areas_px2(boxes)) >= least_share
    return covered
