"""The faster evaluation against COCOeval itself, element for element."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgekd.measure.matching import Evaluation


def indexed(images, classes, annotations):
    index = COCO()
    index.dataset = {
        "images": [{"id": number} for number in range(1, images + 1)],
        "categories": [{"id": number} for number in range(1, classes + 1)],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def boxes(random, count, images, classes):
    """Boxes that often coincide, in every range of areas, on a coarse grid so that overlaps and scores tie."""
    annotations = []
    for number in range(1, count + 1):
        side = random.choice([10, 20, 30, 60, 90, 120])
        box = [*(random.integers(0, 6, 2) * 5.0), side, side + random.choice([0, 5])]
        annotations.append({
            "id": number, "image_id": int(random.integers(1, images + 1)),
            "category_id": int(random.integers(1, classes + 1)),
            "bbox": [float(value) for value in box], "area": float(box[2] * box[3]), "iscrowd": 0,
            "score": float(random.integers(1, 8) / 8),
        })  # fmt: skip
    return annotations


@pytest.mark.parametrize("seed", range(6))
def test_same_results_as_cocoeval(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(seed)
    images, classes = 5, 3
    objects = boxes(random, [0, 8, 25, 40, 60, 90][seed], images, classes)
    for one in objects:
        one["iscrowd"] = int(random.random() < 0.25)
    truth = indexed(images, classes, objects)
    found = indexed(images, classes, boxes(random, [60, 0, 80, 200, 1600, 2500][seed], images, classes))
    theirs, ours = COCOeval(truth, found, "bbox"), Evaluation(truth, found)
    for one in (theirs, ours):
        one.evaluate()
        one.accumulate()
    assert len(ours.evalImgs) == len(theirs.evalImgs) == images * classes * 4
    for left, right in zip(ours.evalImgs, theirs.evalImgs, strict=True):
        assert (left is None) == (right is None)
        for key in right or {}:
            np.testing.assert_array_equal(left[key], right[key], err_msg=key)
    np.testing.assert_array_equal(ours.eval["precision"][..., -1], theirs.eval["precision"][..., -1])
    np.testing.assert_array_equal(ours.eval["recall"][..., -1], theirs.eval["recall"][..., -1])
