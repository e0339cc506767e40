"""The gain over seeds: against tables of Student's t, and scipy's own paired test."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.measure.paired_gain import paired_gain


def test_three_seeds_by_hand() -> None:
    """Differences 0.1, 0.2, 0.3: mean 0.2, deviation 0.1, t(0.975, 2) = 4.30265 (any table), over the root of 3."""
    gain = paired_gain([0.3, 0.5, 0.7], [0.2, 0.3, 0.4])
    assert gain.mean == pytest.approx(0.2)
    assert gain.low == pytest.approx(0.2 - 4.30265 * 0.1 / 3**0.5, abs=1e-6)
    assert gain.high == pytest.approx(0.2 + 4.30265 * 0.1 / 3**0.5, abs=1e-6)
    assert gain.differences == pytest.approx((0.1, 0.2, 0.3))


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    from scipy.stats import ttest_rel

    draw = np.random.default_rng(0)
    controls = draw.uniform(0.2, 0.4, 7)
    students = controls + draw.normal(0.03, 0.02, 7)
    gain = paired_gain(students.tolist(), controls.tolist(), level=0.9)
    expected = ttest_rel(students, controls).confidence_interval(0.9)
    assert (gain.low, gain.high) == pytest.approx((expected.low, expected.high))


def test_what_all_seeds_have_in_common_does_not_widen_the_interval() -> None:
    """Hard and easy seeds alike gain 0.05: the interval is a point."""
    gain = paired_gain([0.15, 0.55, 0.95], [0.1, 0.5, 0.9])
    assert gain.low == pytest.approx(0.05) and gain.high == pytest.approx(0.05)


def test_one_seed_has_no_interval() -> None:
    gain = paired_gain([0.4], [0.3])
    assert gain.mean == pytest.approx(0.1) and gain.low is None and gain.high is None


@pytest.mark.parametrize(("students", "controls"), [([], []), ([0.1], [0.1, 0.2])])
def test_pairs_must_be_pairs(students: list[float], controls: list[float]) -> None:
    with pytest.raises(ValueError, match="make no pairs"):
        paired_gain(students, controls)
