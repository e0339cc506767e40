"""Precision and recall over thresholds, calibration and confusions, by hand and beside `operating_point`."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.measure.average_precision import operating_point
from edgekd.measure.operating import THRESHOLDS, calibration, confusion, curve
from edgekd.report.matching import match_image
from edgekd.types import Detections, GroundTruth


def truth(boxes: list[list[float]], classes: list[int], image_id: int = 1) -> GroundTruth:
    return GroundTruth(
        image_id, "a.png", 100, 100, np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64),
        np.zeros(len(boxes), np.bool_),
    )  # fmt: skip


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32), np.array(classes, np.int64)
    )


def at(threshold: float) -> int:
    return int(np.argmin(abs(THRESHOLDS - threshold)))


def test_curve_by_hand() -> None:
    scores, right = np.array([0.9, 0.8, 0.6, 0.3], np.float32), np.array([True, False, True, False])
    made = curve(scores, right, objects=4)
    expectations = ((0.2, 0.5, 0.5), (0.5, 2 / 3, 0.5), (0.7, 0.5, 0.25), (0.85, 1, 0.25), (0.95, 1, 0))
    for threshold, precision, recall in expectations:
        assert made.precision[at(threshold)] == pytest.approx(precision)
        assert made.recall[at(threshold)] == pytest.approx(recall)
        expected = 2 * precision * recall / (precision + recall) if recall else 0
        assert made.f1[at(threshold)] == pytest.approx(expected)
    assert made.recall[at(0.6)] == 0.5, "a score at the threshold stays"


def test_curve_is_the_operating_point_of_every_threshold() -> None:
    rng = np.random.default_rng(0)
    truths, detections, scores, right = [], {}, [], []
    for image_id in range(6):
        corner = rng.uniform(0, 70, (5, 2))
        boxes = np.hstack([corner, corner + 20])
        truths.append(truth(boxes.tolist(), rng.integers(0, 3, 5).tolist(), image_id))
        shaken = np.vstack([boxes, boxes]) + rng.normal(0, 4, (10, 4))
        one = found(shaken.tolist(), rng.uniform(0.02, 1, 10).tolist(), rng.integers(0, 3, 10).tolist())
        detections[image_id] = one
        matched = match_image(truths[-1], one, 0.01)
        scores.append(matched.detections.scores)
        right.append(matched.right)
    made = curve(np.concatenate(scores), np.concatenate(right), 30)
    for threshold in (0.05, 0.25, 0.5, 0.8):
        expected = operating_point(truths, detections, threshold)
        assert made.precision[at(threshold)] == pytest.approx(expected.precision, abs=1e-6)
        assert made.recall[at(threshold)] == pytest.approx(expected.recall, abs=1e-6)
        assert made.f1[at(threshold)] == pytest.approx(expected.f1, abs=1e-6)


def test_calibration_by_hand() -> None:
    made = calibration(np.array([0.95, 0.91, 1.0, 0.05], np.float32), np.array([True, False, True, False]))
    assert made.count.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    assert made.right[9] == pytest.approx(2 / 3)
    assert np.isnan(made.right[4])
    mean = (0.95 + 0.91 + 1.0) / 3
    assert made.error == pytest.approx((3 * abs(mean - 2 / 3) + 0.05) / 4, abs=1e-6)
    assert calibration(np.zeros(0, np.float32), np.zeros(0, np.bool_)).error is None


def test_confusions_by_hand() -> None:
    labels = truth([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0, 1, 1])
    detections = found(
        [[0, 0, 10, 10], [20, 0, 30, 9], [20, 0, 30, 10], [70, 70, 80, 80]], [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1]
    )
    matched = match_image(labels, detections, 0.25)
    matrix = confusion([(labels, matched.detections, matched.right, matched.ignored, matched.missed)], 2)
    # class 0 is right; a 1 is taken for a 0 once, and its double is invented; a 1 is missed; a 1 is invented
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
