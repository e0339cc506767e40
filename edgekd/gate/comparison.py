"""Is a candidate slower than its reference by more than a budget? Pass, fail, go on, or give up as inconclusive.

Looks are planned in advance, and their error probabilities add up to that of the whole comparison (Bonferroni): who
looks again and again at 5 % finds a difference in the end, whether there is one or not. A control, the reference
against a second copy of itself in the same processes, must show nothing, or nothing is judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekd.measure.paired_latency import LEAST_PROCESSES, FloatArray, Ratio, p_value, ratio

Status = Literal["pass", "fail", "inconclusive", "invalid"]

LOOKS = (6, 9, 12, 18, 24, 36)


@dataclass(frozen=True)
class Plan:
    """What is decided before the first sample.

    Attributes:
        budget: slowdown that is allowed, as a fraction: 0.01 is one percent.
        looks: numbers of processes after which to judge, ascending; the last is the cap.
        error: probability of a wrong verdict over all looks together.
    """

    budget: float = 0.01
    looks: tuple[int, ...] = LOOKS
    error: float = 0.01

    def __post_init__(self) -> None:
        if not self.looks or list(self.looks) != sorted(set(self.looks)) or self.looks[0] < LEAST_PROCESSES:
            raise ValueError(f"looks must ascend from at least {LEAST_PROCESSES}, got {self.looks}")

    @property
    def level(self) -> float:
        """Confidence of the two-sided interval at each look, half of whose error lies on either side."""
        return 1 - 2 * self.error / len(self.looks)


def looks_up_to(most: int) -> tuple[int, ...]:
    """The usual looks for at most so many processes, the last of them there."""
    return (*(count for count in LOOKS if count < most), most)


@dataclass(frozen=True)
class Decision:
    """What a look says.

    Attributes:
        status: None: go on with more processes.
        reason: one line, with the figures.
        candidate, control: ratios to the reference.
    """

    status: Status | None
    reason: str
    candidate: Ratio
    control: Ratio


def look(plan: Plan, candidate: Sequence[FloatArray], control: Sequence[FloatArray]) -> Decision:
    """Judge what the processes so far have given.

    Args:
        plan: with a look at this number of processes.
        candidate, control: per process, logarithms of the ratio to the reference per round.
    """
    found, copy = ratio(candidate, plan.level), ratio(control, plan.level)
    last = len(candidate) >= plan.looks[-1]
    shown = f"{_percent(found.estimate - 1)} [{_percent(found.low - 1)}, {_percent(found.high - 1)}]"
    budget = _percent(plan.budget)

    def decide(status: Status | None, why: str) -> Decision:
        return Decision(status, f"{shown}: {why}", found, copy)

    if copy.low > 1 or copy.high < 1:
        between = f"[{_percent(copy.low - 1)}, {_percent(copy.high - 1)}]"
        return decide("invalid" if last else None, f"the reference differs from its own copy by {between}")
    if found.low > 1 + plan.budget:
        return decide("fail", f"slower than the budget of {budget} allows")
    if found.high < 1 + plan.budget:
        return decide("pass", f"within the budget of {budget}")
    seen = f"{found.processes} processes could have seen {_percent(found.detectable)}"
    return decide("inconclusive" if last else None, f"the budget of {budget} lies inside the interval; {seen}")


def holm(p_values: Mapping[str, float], error: float) -> dict[str, bool]:
    """Which of several null hypotheses are rejected, so that the probability of any false rejection is at most `error`.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 6, 1979.

    Args:
        p_values: per comparison, e.g. of `too_slow`.
    """
    rejected: dict[str, bool] = dict.fromkeys(p_values, False)
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        if p_values[name] > error / (len(p_values) - rank):
            break
        rejected[name] = True
    return rejected


def too_slow(plan: Plan, candidate: Sequence[FloatArray]) -> float:
    """p-value of 'the candidate is within the budget'."""
    return p_value(candidate, 1 + plan.budget)


def _percent(fraction: float) -> str:
    return "infinite" if math.isinf(fraction) else f"{100 * fraction:+.2f} %"
