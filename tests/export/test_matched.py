"""Matched detections, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.agent.postprocess import Decoded
from edgekd.export.matched import Matches


def found(*rows: tuple[float, float, int]) -> Decoded:
    """x1, score and class of boxes of 10 by 10 px, best first."""
    boxes = np.array([(x1, 0, x1 + 10, 10) for x1, _, _ in rows], np.float32).reshape(-1, 4)
    return Decoded(boxes, np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64))


def matches(expected: Decoded, actual: Decoded) -> Matches:
    counted = Matches()
    counted.add(expected, actual)
    return counted


def test_share_score_and_iou() -> None:
    ours = found((0, 0.9, 0), (40, 0.6, 1), (80, 0.3, 0), (120, 0.2, 0))
    theirs = found((0, 0.8, 0), (42.5, 0.65, 1), (86, 0.3, 0))
    record = matches(ours, theirs).as_json()
    assert (record["detections"], record["share"]) == (3, pytest.approx(2 / 3))  # 80 and 86 overlap by an IoU of 0.25
    assert record["invented"] == 1
    assert record["mean_score_change"] == pytest.approx((0.1 + 0.05) / 2)
    assert record["mean_iou"] == pytest.approx((1 + 7.5 / 12.5) / 2)


def test_another_class_is_no_partner() -> None:
    counted = matches(found((0, 0.9, 0)), found((0, 0.9, 1)))
    assert (counted.matched, counted.invented) == (0, 1)


def test_a_partner_serves_once_and_the_best_chooses_first() -> None:
    counted = matches(found((2, 0.9, 0), (0, 0.8, 0)), found((1, 0.85, 0)))
    assert (counted.detections, counted.matched) == (2, 1)
    assert counted.score_change == pytest.approx(0.05)


def test_scores_near_the_threshold_may_fall_below_it_or_rise_above() -> None:
    counted = matches(found((0, 0.26, 0), (40, 0.24, 0)), found((0, 0.24, 0), (40, 0.26, 0)))
    assert (counted.detections, counted.matched, counted.invented) == (1, 1, 0)
    assert matches(found((0, 0.26, 0)), found((0, 0.12, 0))).matched == 0


def test_nothing_to_match_is_no_share() -> None:
    record = matches(found((0, 0.2, 0)), found()).as_json()
    assert (record["detections"], record["share"], record["mean_iou"]) == (0, None, None)


def test_images_add_up() -> None:
    counted = Matches()
    counted.add(found((0, 0.9, 0)), found((0, 0.9, 0)))
    counted.add(found((0, 0.9, 0)), found())
    assert counted.share == 0.5
