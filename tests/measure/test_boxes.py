import numpy as np
import pytest

from edgekd.measure.boxes import areas_px2, intersections_px2, ious


def test_overlaps_by_hand() -> None:
    first = np.array([[0, 0, 10, 10], [3, 3, 3, 3]], np.float32)
    second = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]], np.float32)
    assert areas_px2(first).tolist() == [100, 0]
    assert intersections_px2(first, second).tolist() == [[50, 0, 0], [0, 0, 0]]
    assert ious(first, second).tolist() == [[pytest.approx(1 / 3), 0, 0], [0, 0, 0]]
