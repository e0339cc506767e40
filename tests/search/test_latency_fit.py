"""Predictions: exact on a law of nature, careful with few points, and level by level."""

from __future__ import annotations

import math

import pytest

from edgekd.search.latency_fit import Fit, Point, Prediction


def law(gflops: float, parameters: int, device: str = "board", level: float = 10.0) -> Point:
    """p90 = level * GFLOPs^0.7 * (weights in millions)^0.2."""
    return Point(device, gflops, parameters, level * gflops**0.7 * (parameters / 1e6) ** 0.2)


POINTS = [law(gflops, parameters) for gflops in (0.5, 2, 8, 32) for parameters in (10**6, 5 * 10**6, 40 * 10**6)]


def predicted(fit: Fit, gflops: float, parameters: int) -> Prediction:
    found = fit.predict(gflops, parameters)
    assert found is not None
    return found


def test_many_points_of_a_power_law_give_it_back() -> None:
    expected = law(5.0, 9_000_000).p90_ms
    found = predicted(Fit(POINTS, "board"), 5.0, 9_000_000)
    assert found.ms == pytest.approx(expected, rel=0.02)
    assert found.low_ms < expected < found.high_ms


def test_nothing_is_said_of_a_device_without_measurements() -> None:
    assert Fit([], "board").predict(1.0, 10**6) is None
    assert Fit([law(1.0, 10**6, "other")], "board").predict(1.0, 10**6) is None


def test_one_point_is_met_and_gives_the_slope_of_the_prior() -> None:
    fit = Fit([Point("board", 1.0, 10**6, 20.0)], "board")
    assert predicted(fit, 1.0, 10**6).ms == pytest.approx(20.0, rel=1e-3)
    assert predicted(fit, 8.0, 10**6).ms == pytest.approx(20.0 * 8**0.8, rel=1e-3)


def test_the_interval_is_wide_with_one_point_and_narrow_with_many() -> None:
    def width(fit: Fit) -> float:
        found = predicted(fit, 4.0, 5 * 10**6)
        return math.log(found.high_ms / found.low_ms)

    assert width(Fit(POINTS[:1], "board")) > 1.0
    assert width(Fit(POINTS, "board")) < 0.5


def test_another_device_lends_its_slope_and_not_its_level() -> None:
    steep = [Point("lab", gflops, 10**6, 3.0 * gflops) for gflops in (0.25, 0.5, 1, 2, 4, 8, 16, 32)]
    here = [Point("board", 1.0, 10**6, 100.0)]
    alone, helped = predicted(Fit(here, "board"), 16.0, 10**6), predicted(Fit(here + steep, "board"), 16.0, 10**6)
    assert alone.ms == pytest.approx(100 * 16**0.8, rel=1e-3)
    assert abs(helped.ms - 1600) < abs(alone.ms - 1600)
    assert predicted(Fit(here + steep, "board"), 1.0, 10**6).ms == pytest.approx(100, rel=0.02)


def test_the_order_of_points_does_not_matter() -> None:
    first, second = (predicted(Fit(points, "board"), 3.0, 10**7) for points in (POINTS, POINTS[::-1]))
    assert first.ms == pytest.approx(second.ms)
