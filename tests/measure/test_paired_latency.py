"""Ratios of interleaved runs: by hand, against scipy, and calibrated on drawn processes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from edgekd.measure.paired_latency import p_value, ratio, round_log_ratios


def processes(count: int, true_ratio: float, spread: float, seed: int, rounds: int = 10) -> list[np.ndarray]:
    """Every process has an offset of its own, which its rounds share."""
    draw = np.random.default_rng(seed)
    return [
        math.log(true_ratio) + draw.normal(0, spread) + draw.normal(0, spread, rounds)
        for _ in range(count)
    ]  # fmt: skip


def test_rounds_by_hand() -> None:
    reference = [np.array([10, 30, 20]), np.array([40, 40])]
    candidate = [np.array([22, 22, 99]), np.array([20, 60])]
    assert round_log_ratios(reference, candidate) == pytest.approx([math.log(22 / 20), 0.0])


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 2)])
def test_rounds_that_do_not_pair(first: int, second: int) -> None:
    block = np.array([1, 2])
    with pytest.raises(ValueError, match=f"one block of each: got {first} and {second}"):
        round_log_ratios([block] * first, [block] * second)


def test_ratio_by_hand() -> None:
    found = ratio([np.log([1.0, 1.1, 1.2]), np.log([1.2]), np.log([1.3])], level=0.9)
    logs = np.log([1.1, 1.2, 1.3])
    low, high = stats.t.interval(0.9, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert found.estimate == pytest.approx(math.exp(logs.mean()))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert (found.processes, found.rounds, found.level) == (3, 5, 0.9)
    assert found.detectable == pytest.approx(math.exp(2.8 * stats.sem(logs)) - 1)


def test_a_storm_in_one_round_changes_nothing() -> None:
    calm = processes(6, 1.0, 0.001, seed=1)
    stormy = [one.copy() for one in calm]
    stormy[0][np.argmax(stormy[0])] = 5.0
    assert ratio(stormy) == ratio(calm)


def test_swapping_the_two_inverts_the_ratio() -> None:
    forth = ratio(processes(5, 1.03, 0.01, seed=2))
    back = ratio([-one for one in processes(5, 1.03, 0.01, seed=2)])
    assert back.estimate == pytest.approx(1 / forth.estimate)
    assert (back.low, back.high) == pytest.approx((1 / forth.high, 1 / forth.low))


def test_too_few_processes() -> None:
    with pytest.raises(ValueError, match="at least 3 processes, not 2"):
        ratio(processes(2, 1.0, 0.01, seed=0))


def test_p_value_is_scipys() -> None:
    drawn = processes(4, 1.02, 0.01, seed=3)
    medians = [np.median(one) for one in drawn]
    expected = stats.ttest_1samp(medians, math.log(1.01), alternative="greater").pvalue
    assert p_value(drawn, 1.01) == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:Precision loss")  # the second has no spread
@pytest.mark.parametrize(("count", "left"), [(4, 4), (5, 3), (9, 7), (10, 6), (18, 12)])
def test_a_fifth_at_either_end_is_trimmed_as_scipy_does(count: int, left: int) -> None:
    """Yuen's test of two samples, the second without spread, is the test of one."""
    drawn = processes(count, 1.02, 0.01, seed=4)
    medians = [np.median(one) for one in drawn]
    found = stats.ttest_ind(medians, [math.log(1.01)] * count, equal_var=False, trim=0.2, alternative="greater")
    assert p_value(drawn, 1.01) == pytest.approx(found.pvalue)
    between = found.confidence_interval(0.95)
    assert found.df == pytest.approx(left - 1)
    assert ratio(drawn, 0.9).low == pytest.approx(1.01 * math.exp(between.low))
    assert ratio(drawn).estimate == pytest.approx(math.exp(np.sort(medians)[(count - left) // 2 :][:left].mean()))


def test_processes_that_are_far_off_change_little() -> None:
    calm = [np.array([math.log(1.03) + offset]) for offset in np.linspace(-0.004, 0.004, 10)]
    stormy = [*calm[:-1], np.array([math.log(0.78)])]
    assert ratio(stormy).estimate == pytest.approx(1.03, abs=0.001)
    assert ratio(stormy).low > 1.02


@pytest.mark.parametrize(("limit", "expected"), [(1.0, 0.0), (1.2, 1.0)])
def test_p_value_without_any_spread(limit: float, expected: float) -> None:
    assert p_value([np.full(4, math.log(1.1))] * 3, limit) == expected


@pytest.mark.parametrize("count", [3, 6, 18])
def test_intervals_cover_the_truth_as_often_as_they_say(count: int) -> None:
    """Of 1,000 at 90 %, 900 +- 9.5; four standard deviations are allowed."""
    found = (ratio(processes(count, 1.05, 0.02, seed), level=0.9) for seed in range(1000))
    covered = sum(one.low <= 1.05 <= one.high for one in found)
    assert covered == pytest.approx(900, abs=38)
