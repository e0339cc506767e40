"""Latency over a long run, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.measure.sustained import over_time


def test_spans_of_equal_time_not_of_equal_count() -> None:
    """Ten seconds at 100 ms, then ten at 200 ms: two spans of ten seconds, of 100 and of 50 samples."""
    found = over_time(np.array([100_000_000] * 100 + [200_000_000] * 50), windows=2)
    assert found.window_seconds == pytest.approx(10)
    assert found.p50_ms == (100.0, 200.0)
    assert found.last_over_first == 2.0
    assert found.note() == "after 0.3 min the median is 2.00 times that of the beginning"


def test_fewer_spans_where_samples_are_few() -> None:
    found = over_time(np.array([1_000_000] * 12))
    assert len(found.p50_ms) == 2
    assert over_time(np.array([1_000_000] * 3)).p50_ms == (1.0,)
