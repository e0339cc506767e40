"""Verdicts of comparisons: by hand, and how often they are wrong on drawn processes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekd.gate.comparison import Plan, holm, look, looks_up_to, too_slow

EXACT = [np.zeros(5)] * 2 + [np.full(5, 1e-5)] * 2 + [np.full(5, -1e-5)] * 2  # a copy that is as fast, but for a hair


def shifted(true_ratio: float, width: float = 1e-4) -> list[np.ndarray]:
    """Six processes; of four, the trimmed mean has a standard error of width / sqrt(3), and t(3) is 8.58 at 1/600."""
    return [np.full(5, math.log(true_ratio) + offset) for offset in (-width, width, 0, 0, width, -width)]


@pytest.mark.parametrize(
    ("candidate", "status", "reason"),
    [
        (shifted(1.03), "fail", "+3.00 % [+2.95 %, +3.05 %]: slower than the budget of +1.00 % allows"),
        (shifted(0.9), "pass", "-10.00 % [-10.04 %, -9.96 %]: within the budget of +1.00 %"),
        (shifted(1.0, 0.001), "pass", "[-0.49 %, +0.50 %]: within the budget of +1.00 %"),
        (shifted(1.01), None, "the budget of +1.00 % lies inside the interval; 6 processes could have seen +0.02 %"),
    ],
)
def test_verdicts(candidate: list[np.ndarray], status: str | None, reason: str) -> None:
    decision = look(Plan(), candidate, EXACT)
    assert decision.status == status
    assert reason in decision.reason


def test_at_the_cap_it_is_inconclusive() -> None:
    assert look(Plan(looks=(6,)), shifted(1.01), EXACT).status == "inconclusive"


def test_a_copy_that_differs_forbids_a_verdict() -> None:
    decision = look(Plan(looks=(6, 9)), shifted(1.2), shifted(1.05))
    assert decision.status is None, "more processes may show that it was chance"
    decision = look(Plan(looks=(6,)), shifted(1.2), shifted(1.05))
    assert decision.status == "invalid"
    assert "the reference differs from its own copy by [+4." in decision.reason


@pytest.mark.parametrize("looks", [(), (2, 4), (6, 6), (9, 6)])
def test_plans_that_are_none(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks must ascend from at least 3"):
        Plan(looks=looks)


@pytest.mark.parametrize(
    ("cap", "looks"),
    [(3, (3,)), (6, (6,)), (10, (6, 9, 10)), (36, (6, 9, 12, 18, 24, 36)), (50, (6, 9, 12, 18, 24, 36, 50))],
)
def test_a_cap_ends_the_looks(cap: int, looks: tuple[int, ...]) -> None:
    assert looks_up_to(cap) == looks


def test_level_shares_the_error_among_the_looks() -> None:
    assert Plan(looks=(6, 9), error=0.01).level == pytest.approx(0.99)
    assert Plan(looks=(6,), error=0.05).level == pytest.approx(0.9)


def outcomes(true_ratio: float, spread: float, tries: int) -> list[str | None]:
    """Whole comparisons, from the first look to a verdict."""
    plan, found = Plan(), []
    for seed in range(tries):
        draw = np.random.default_rng(seed)
        candidate, control = (
            [centre + draw.normal(0, spread) + draw.normal(0, spread, 12) for _ in range(plan.looks[-1])]
            for centre in (math.log(true_ratio), 0.0)
        )
        status = None
        for count in plan.looks:
            status = status or look(plan, candidate[:count], control[:count]).status
        found.append(status)
    return found


def test_false_alarms_and_misses() -> None:
    """Processes that differ by half a percent, as on a quiet machine; exactly at the budget is the worst case."""
    assert outcomes(1.01, 0.005, 300).count("fail") <= 8, "1 % of 300, and three standard deviations"
    assert outcomes(1.0, 0.005, 300).count("fail") == 0
    assert outcomes(1.03, 0.005, 300).count("fail") >= 285


def test_holm_by_hand() -> None:
    values = {"a": 0.001, "b": 0.02, "c": 0.011, "d": 0.5}
    assert holm(values, 0.04) == {"a": True, "b": True, "c": True, "d": False}
    assert holm(values, 0.03) == {"a": True, "b": False, "c": False, "d": False}
    assert holm({}, 0.05) == {}


def test_evidence_that_the_budget_is_broken() -> None:
    plan = Plan()
    assert too_slow(plan, shifted(1.03)) < 1e-6
    assert too_slow(plan, shifted(1.0)) > 0.99
