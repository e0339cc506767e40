from __future__ import annotations

import numpy as np
import pytest

from edgekd.measure.average_precision import operating_point
from edgekd.report.matching import match_image
from edgekd.types import Detections, GroundTruth


def truth(boxes: object, classes: object, crowd: object = None, image_id: int = 1) -> GroundTruth:
    boxes_px = np.asarray(boxes, np.float32).reshape(-1, 4)
    flags = np.zeros(len(boxes_px), np.bool_) if crowd is None else np.asarray(crowd, np.bool_)
    return GroundTruth(image_id, "x.png", 100, 100, boxes_px, np.asarray(classes, np.int64), flags)


def found(boxes: object, scores: object, classes: object) -> Detections:
    boxes_px = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes_px, np.asarray(scores, np.float32), np.asarray(classes, np.int64))


def test_by_hand() -> None:
    labels = truth([[0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 100, 20]], [0, 0, 1])
    boxes = [[1, 0, 11, 10], [0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 100, 20], [80, 0, 100, 20]]
    result = match_image(labels, found(boxes, [0.6, 0.9, 0.2, 0.8, 0.7], [0, 0, 0, 0, 1]), threshold=0.25)
    assert result.detections.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert result.right.tolist() == [True, False, True, False]  # exact; wrong class; right class; taken already
    assert result.missed.tolist() == [False, True, False]  # the second object's detection is below the threshold
    assert (result.false_alarms, result.errors) == (2, 3)


def test_crowds_are_neither_missed_nor_a_reason_for_false_alarms() -> None:
    labels = truth([[0, 0, 100, 50]], [0], [True])
    result = match_image(labels, found([[10, 10, 20, 20], [10, 70, 20, 80]], [0.9, 0.8], [0, 0]), threshold=0.5)
    assert result.ignored.tolist() == [True, False]
    assert (result.false_alarms, int(result.missed.sum())) == (1, 0)


def test_empty_on_either_side() -> None:
    assert match_image(truth([], []), found([[0, 0, 5, 5]], [0.9], [0]), 0.5).errors == 1
    assert match_image(truth([[0, 0, 5, 5]], [0]), found([], [], []), 0.5).errors == 1


def test_counts_are_those_of_the_operating_point() -> None:
    rng = np.random.default_rng(3)
    for image_id in range(60):
        objects, detections = rng.integers(0, 7), rng.integers(0, 9)
        corner = rng.uniform(0, 60, (objects, 2))
        boxes = np.hstack([corner, corner + rng.uniform(8, 40, (objects, 2))])
        labels = truth(boxes, rng.integers(0, 2, objects), rng.random(objects) < 0.2, image_id)
        corner = rng.uniform(0, 60, (detections, 2))
        guesses = np.hstack([corner, corner + rng.uniform(8, 40, (detections, 2))])
        near = min(objects, detections)
        guesses[:near] = boxes[:near] + rng.normal(0, 3, (near, 4))
        guess = found(guesses, rng.random(detections), rng.integers(0, 2, detections))
        result = match_image(labels, guess, threshold=0.3)
        point = operating_point([labels], {image_id: guess}, threshold=0.3)
        hits = int(result.right.sum())
        assert hits / max(hits + result.false_alarms, 1) == pytest.approx(point.precision)
        assert hits / max(hits + int(result.missed.sum()), 1) == pytest.approx(point.recall)
