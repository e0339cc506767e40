"""Average precision by pycocotools, and precision and recall at one operating threshold.

AP follows COCO's rules: IoU 0.50:0.95, 101 recall points, the best 100 detections per image *and class*
(`maxDets` [1, 10, 100], the default that other tools use with pycocotools too), crowd boxes ignored. The area of an
object is that of its box; COCO's own annotations give the area of the mask, so sizes may differ there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError
from edgekd.progress import progress
from edgekd.types import AveragePrecision, Detections, FloatArray, GroundTruth

FloatMatrix = npt.NDArray[np.float64]
_AREAS = ("all", "small", "medium", "large")  # order of COCOeval's areaRng


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
    ground_truth: Sequence[GroundTruth],
    detections: Mapping[int, Detections],
    class_names: Sequence[str],
    title: str | None = None,
) -> AveragePrecision:
    """AP of detections.

    Args:
        ground_truth: every image of the split, those without boxes included.
        detections: image id -> detections; an image that is missing has none.
        class_names: index = class id.
        title: of a progress bar; none is shown without it.

    Raises:
        InputError: no ground truth to compare with, or detections of an image that is not in it.
    """
    with _without_garbage_collection():
        return evaluate_results(ground_truth, coco_results(detections), class_names, title)


def evaluate_results(
    ground_truth: Sequence[GroundTruth],
    results: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    title: str | None = None,
) -> AveragePrecision:
    """AP of detections in COCO's result form (see `coco_results`), of whatever origin. Otherwise as `evaluate`."""
    with silent_pycocotools():
        evaluation = match(ground_truth, results, class_names, areas=_AREAS, title=title)
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # (10 IoUs, 101 recalls, classes, areas) at 100 detections
    if not (precision[..., 0] > -1).any():
        raise InputError("average precision: the ground truth holds no box to detect; check the split's labels")
    whole = precision[..., 0]
    small, medium, large = (_mean(precision[..., area]) for area in range(1, len(_AREAS)))
    return AveragePrecision(
        ap=_mean(whole) or 0.0,
        ap50=_mean(whole[0]) or 0.0,
        ap75=_mean(whole[5]) or 0.0,
        ap_small=small,
        ap_medium=medium,
        ap_large=large,
        per_class={name: _mean(whole[:, :, index]) for index, name in enumerate(class_names)},
    )


def coco_ground_truth(ground_truth: Sequence[GroundTruth], class_names: Sequence[str]) -> dict[str, Any]:
    """Ground truth as the content of a COCO annotation file. Category id = class id + 1; boxes are x y width height."""
    annotations: list[dict[str, Any]] = []
    for image in ground_truth:
        for box, class_id, crowd in zip(_xywh(image.boxes_px), image.class_ids, image.is_crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": int(image.image_id),
                    "category_id": int(class_id) + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [
            {
                "id": int(image.image_id),
                "file_name": image.file_name,
                "height": image.height_px,
                "width": image.width_px,
            }
            for image in ground_truth
        ],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(class_names)],
        "annotations": annotations,
    }


def coco_results(detections: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """Detections as the content of a COCO result file: image_id, category_id (class id + 1), bbox x y w h, score."""
    return [
        {"image_id": int(image_id), "category_id": int(class_id) + 1, "bbox": box, "score": float(score)}
        for image_id, found in detections.items()
        for box, score, class_id in zip(_xywh(found.boxes_px), found.scores, found.class_ids, strict=True)
    ]


def match(
    ground_truth: Sequence[GroundTruth],
    results: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    areas: Sequence[str] = ("all",),
    title: str | None = None,
) -> Any:
    """A `COCOeval` after `evaluate()`: who matched whom per image, class and area, before any averaging.

    Raises:
        InputError: detections of an image or class that the ground truth does not have.
    """
    from edgekd.measure.matching import Evaluation

    truth = coco_ground_truth(ground_truth, class_names)
    _refuse_strangers(truth, results)
    found = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    with silent_pycocotools():
        steps = len(ground_truth) * len(class_names) * len(areas)
        with progress(title, steps) if title else nullcontext() as advance:
            evaluation = Evaluation(_indexed(truth), _indexed({**truth, "annotations": found}), advance)
            chosen = [evaluation.params.areaRngLbl.index(area) for area in areas]
            evaluation.params.areaRng = [evaluation.params.areaRng[index] for index in chosen]
            evaluation.params.areaRngLbl = list(areas)
            evaluation.evaluate()
    return evaluation


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


@contextmanager
def silent_pycocotools() -> Iterator[None]:
    """Keep pycocotools from printing. Standard output itself is left alone: others may be writing to it."""
    from pycocotools import coco, cocoeval

    modules = [vars(coco), vars(cocoeval)]
    before = [module.get("print") for module in modules]
    for module in modules:
        module["print"] = lambda *_args, **_kwargs: None
    try:
        yield
    finally:
        for module, shadow in zip(modules, before, strict=True):
            if shadow is None:
                module.pop("print", None)
            else:
                module["print"] = shadow


def _indexed(content: dict[str, Any]) -> Any:
    from pycocotools.coco import COCO

    index = COCO()
    index.dataset = content
    index.createIndex()
    return index


def _refuse_strangers(truth: dict[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    for key, kind in (("image_id", "images"), ("category_id", "categories")):
        known = {entry["id"] for entry in truth[kind]}
        strange = sorted({str(result[key]) for result in results if result[key] not in known})
        if strange:
            shown = ", ".join(strange[:5])
            raise InputError(
                f"average precision: detections of {len(strange)} {kind} that the ground truth does not have "
                f"({key} {shown}); evaluate them against the split that they were made on"
            )


def _mean(precision: FloatMatrix) -> float | None:
    """Mean over what COCO defines; it marks classes and sizes without ground truth by -1."""
    defined = precision[precision > -1]
    return float(defined.mean()) if defined.size else None


def _xywh(boxes_px: FloatArray) -> list[list[float]]:
    boxes = np.asarray(boxes_px, np.float64).reshape(-1, 4)
    corners: list[list[float]] = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
    return corners


def _intersections(first: FloatArray, second: FloatArray) -> FloatMatrix:
    """(N, 4) and (M, 4) -> (N, M) px^2."""
    a, b = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: FloatMatrix = sides.clip(0).prod(-1)
    return shared


def _areas_px2(boxes: FloatArray) -> FloatMatrix:
    areas: FloatMatrix = (np.asarray(boxes, np.float64)[:, 2:] - boxes[:, :2]).prod(-1)
    return areas


def _greedy(boxes: FloatArray, objects: FloatArray, least_iou: float) -> npt.NDArray[np.bool_]:
    """(N,) whether each box, best first, got an object of its own."""
    matched = np.zeros(len(boxes), np.bool_)
    if not len(objects):
        return matched
    shared = _intersections(boxes, objects)
    unions = _areas_px2(boxes)[:, None] + _areas_px2(objects) - shared
    ious = np.divide(shared, unions, out=np.zeros_like(shared), where=unions > 0)
    for row, overlaps in enumerate(ious):
        nearest = int(overlaps.argmax())
        if overlaps[nearest] >= least_iou:
            matched[row] = True
            ious[:, nearest] = -1
    return matched


def _covered(boxes: FloatArray, crowds: FloatArray, least_share: float) -> npt.NDArray[np.bool_]:
    """(N,) whether at least a share of each box lies in one crowd box."""
    if not len(crowds):
        return np.zeros(len(boxes), np.bool_)
    own = _areas_px2(boxes)
    shares = np.divide(_intersections(boxes, crowds).max(-1), own, out=np.zeros(len(boxes)), where=own > 0)
    covered: npt.NDArray[np.bool_] = shares >= least_share
    return covered
