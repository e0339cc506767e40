"""Two things timed side by side: rounds in random order, ratios within a round, and an interval of their median.

A busy or throttled machine changes its speed from minute to minute, so two things are compared only within a round, in
which each is timed once, in random order. The figure is the median of these ratios, between the percentiles of a
bootstrap over rounds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
Seconds = list[float]


def interleave(
    variants: Mapping[str, Callable[[], float]],
    rounds: int,
    seed: int = 0,
    told: Callable[[int, Mapping[str, Seconds]], None] = lambda number, times: None,
) -> dict[str, Seconds]:
    """Call each variant once per round, in a random order.

    Args:
        variants: each returns the seconds that count.
        seed: of the order.
        told: after each round, its number, from 1 on, and all times so far.
    """
    order = random.Random(seed)
    times: dict[str, Seconds] = {name: [] for name in variants}
    for number in range(1, rounds + 1):
        for name in order.sample(list(variants), len(variants)):
            times[name].append(variants[name]())
        told(number, times)
    return times


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Median of the rounds' ratios: `median`, `low`, `high`."""
    return _median(np.asarray(numerator) / np.asarray(denominator))


def extra(longer: Sequence[float], shorter: Sequence[float], unit: Sequence[float]) -> dict[str, float]:
    """What `longer` takes beyond `shorter`, in parts of `unit`, round by round; as `ratio`."""
    return _median((np.asarray(longer) - np.asarray(shorter)) / np.asarray(unit))


def _median(figures: npt.NDArray[np.float64], seed: int = 0) -> dict[str, float]:
    """Median of the rounds' figures, and the 2.5th and 97.5th percentile of that median over resampled rounds."""
    picks = np.random.default_rng(seed).integers(0, len(figures), (RESAMPLES, len(figures)))
    low, high = np.percentile(np.median(figures[picks], axis=1), [2.5, 97.5])
    return {"median": round(float(np.median(figures)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
