"""pycocotools, the reference of AP: on edgekd's own values and on results in COCO's form."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgekd.types import Detections, FloatArray, GroundTruth

STATS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")  # COCOeval's first six, by their names here


def evaluation(ground_truth: Sequence[GroundTruth], found: Mapping[int, Detections], class_names: Sequence[str]) -> Any:
    """A `COCOeval` with its arrays and its 12 figures."""
    return evaluation_of(ground_truth, results(found), class_names)


def evaluation_of(
    ground_truth: Sequence[GroundTruth], entries: Sequence[Mapping[str, Any]], class_names: Sequence[str]
) -> Any:
    """The same of detections in the form of a COCO result file: image_id, category_id (class id + 1), bbox, score."""
    truth = annotations(ground_truth, class_names)
    found = [
        {**entry, "id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for number, entry in enumerate(entries, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(_indexed(truth), _indexed({**truth, "annotations": found}), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def annotations(ground_truth: Sequence[GroundTruth], class_names: Sequence[str]) -> dict[str, Any]:
    """The content of a COCO annotation file."""
    boxes = [
        {"image_id": image.image_id, "category_id": int(kind) + 1, "bbox": box, "iscrowd": int(crowd)}
        for image in ground_truth
        for box, kind, crowd in zip(_xywh(image.boxes_px), image.class_ids, image.is_crowd, strict=True)
    ]
    return {
        "images": [{"id": one.image_id, "height": one.height_px, "width": one.width_px} for one in ground_truth],
        "categories": [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)],
        "annotations": [
            {**box, "id": number, "area": box["bbox"][2] * box["bbox"][3]} for number, box in enumerate(boxes, start=1)
        ],
    }


def results(found: Mapping[int, Detections]) -> list[dict[str, Any]]:
    """The content of a COCO result file."""
    return [
        {"image_id": image_id, "category_id": int(kind) + 1, "bbox": box, "score": float(score)}
        for image_id, one in found.items()
        for box, score, kind in zip(_xywh(one.boxes_px), one.scores, one.class_ids, strict=True)
    ]


def _xywh(boxes_px: FloatArray) -> list[list[float]]:
    boxes = np.asarray(boxes_px, np.float64).reshape(-1, 4)
    corners: list[list[float]] = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist()
    return corners


def _indexed(content: dict[str, Any]) -> Any:
    index = COCO()
    index.dataset = content
    index.createIndex()
    return index
