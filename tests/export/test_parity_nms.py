"""Rounding next to a threshold is forgiven; wrong scores, boxes, doubles and losses are not."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.export.contract import Suppression
from edgekd.export.parity_nms import missing, nearest_predictions, not_suppressed
from edgekd.export.tolerance import Tolerance

TOLERANCE = Tolerance(max_abs_score=0.01, max_abs_box_px=0.5)
NMS = Suppression(conf=0.001, iou=0.5, max_det=3)
# Boxes of height 10 whose overlap with the first is 0.51, and 0.2; the last stands alone.
BOXES = np.array([[0, 0, 100, 10], [0, 0, 51, 10], [80, 0, 100, 10], [200, 0, 300, 10]], dtype=np.float32)
SCORES = np.array([[0.9, 0.0], [0.8, 0.0], [0.7, 0.0], [0.0, 0.6]], dtype=np.float32)


def rows(*points: int, score: float = 0.0) -> np.ndarray:
    """Detections that are torch's predictions of these points, their scores moved by `score`."""
    classes = SCORES[list(points)].argmax(axis=1)
    best = SCORES[list(points)].max(axis=1) + np.float32(score)
    return np.column_stack([BOXES[list(points)], best, classes]).astype(np.float32)


def test_the_right_list_has_no_difference() -> None:
    right = rows(0, 2, 3)
    scores, edges = nearest_predictions(BOXES, SCORES, right, TOLERANCE)
    assert np.abs(scores).max() == np.abs(edges).max() == 0
    assert len(not_suppressed(right, NMS)) == 0
    np.testing.assert_array_equal(missing(BOXES, SCORES, right, NMS, 0.01), [0] * 0)


def test_a_box_that_stays_by_rounding_is_forgiven() -> None:
    both = rows(0, 1, 2)  # the second is covered by 0.51, next to the threshold; and the list is full then
    assert len(not_suppressed(both, NMS)) == 0
    assert missing(BOXES, SCORES, both, NMS, 0.01).tolist() == [0.0]


def test_boxes_that_clearly_overlap_are_counted_with_the_lower_score() -> None:
    double = np.concatenate([rows(0), rows(0, score=-0.2)])
    np.testing.assert_allclose(not_suppressed(double, NMS), [0.7])


def test_a_lost_detection_counts_with_what_its_score_must_have_fallen() -> None:
    np.testing.assert_allclose(missing(BOXES, SCORES, rows(0, 2), NMS, 0.01), [0.6 - 0.05])
    assert len(missing(BOXES, SCORES, rows(1, 2, 3), NMS, 0.01)) == 1  # 0.8 is no stand-in for 0.9


def test_differences_are_those_to_the_nearest_prediction_of_the_class() -> None:
    moved = rows(3, score=0.004)
    moved[0, 2] += 0.25
    scores, edges = nearest_predictions(BOXES, SCORES, moved, TOLERANCE)
    assert scores == pytest.approx([0.004], abs=1e-6)
    np.testing.assert_allclose(edges, [[0, 0, 0.25, 0]])
    wrong_class = rows(3)
    wrong_class[0, 5] = 0
    assert nearest_predictions(BOXES, SCORES, wrong_class, TOLERANCE)[0] == pytest.approx([0.6])
