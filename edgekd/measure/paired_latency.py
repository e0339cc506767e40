"""The latency ratio of two artifacts that ran interleaved: estimate, interval, and what a measurement could have seen.

A machine changes its speed from second to second, and each process has a speed of its own (memory layout, clocks). So
two artifacts are timed in one process, in rounds of one short block each, in random order; and this in several fresh
processes. A round gives the logarithm of the ratio of its two block medians, a process the median of its rounds.
Processes are the independent units. Samples, blocks and rounds of one process depend on each other (lag-1 correlations
of 0.4 to 0.97 are usual), and a test over them finds differences that are not there. Now and then a whole process is
off by ten or twenty percent; so the interval is that of a trimmed mean, without the fifth at either end (Tukey &
McLaughlin, Sankhya A 25, 1963; Yuen, Biometrika 61, 1974).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgekd.types import IntArray

FloatArray = npt.NDArray[np.float64]
LEAST_PROCESSES = 3
_TRIMMED = 0.2
# Power 80 % at a two-sided 5 %: z(0.975) + z(0.8) standard errors.
_DETECTABLE_ERRORS = 2.8


@dataclass(frozen=True)
class Ratio:
    """How much longer the candidate takes: 1.02 is 2 % slower.

    Attributes:
        estimate, low, high: ratio and its interval.
        level: confidence, e.g. 0.95.
        processes, rounds: fresh processes, and rounds of all of them.
        detectable: smallest slowdown that a measurement with this spread finds in 80 % of tries, as a fraction.
    """

    estimate: float
    low: float
    high: float
    level: float
    processes: int
    rounds: int
    detectable: float


def round_log_ratios(reference_ns: Sequence[IntArray], candidate_ns: Sequence[IntArray]) -> FloatArray:
    """Logarithms of candidate over reference, one per round, of the medians of the two blocks of a round.

    Args:
        reference_ns, candidate_ns: per round, the block's samples (N,) in ns.

    Raises:
        ValueError: not as many blocks of one as of the other, or none.
    """
    if len(reference_ns) != len(candidate_ns) or not len(reference_ns):
        raise ValueError(f"rounds need one block of each: got {len(reference_ns)} and {len(candidate_ns)}")
    medians = [[float(np.median(block)) for block in blocks] for blocks in (reference_ns, candidate_ns)]
    result: FloatArray = np.log(medians[1]) - np.log(medians[0])
    return result


def ratio(processes: Sequence[FloatArray], level: float = 0.95) -> Ratio:
    """The ratio with its interval.

    Args:
        processes: per fresh process, the logarithms (R,) of `round_log_ratios`.
        level: confidence.

    Raises:
        ValueError: fewer than three processes have no spread worth a name.
    """
    from scipy.special import stdtrit

    found = _location(processes)
    mean, half = found.mean, float(stdtrit(found.freedom, (1 + level) / 2)) * found.error
    return Ratio(
        estimate=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), level=level,
        processes=len(processes), rounds=sum(len(one) for one in processes),
        detectable=math.expm1(_DETECTABLE_ERRORS * found.error),
    )  # fmt: skip


def p_value(processes: Sequence[FloatArray], limit: float) -> float:
    """Probability of a ratio at least as large as the one measured, if the true one were `limit` (one-sided test).

    Args:
        processes: as in `ratio`.
        limit: e.g. 1.01 for a budget of one percent.
    """
    from scipy.special import stdtr

    found = _location(processes)
    distance = found.mean - math.log(limit)
    if found.error == 0:
        return float(distance <= 0)
    return float(stdtr(found.freedom, -distance / found.error))


class _Location(NamedTuple):
    """A trimmed mean, its standard error, and the degrees of freedom of that."""

    mean: float
    error: float
    freedom: int


def _location(processes: Sequence[FloatArray]) -> _Location:
    count = len(processes)
    if count < LEAST_PROCESSES:
        raise ValueError(f"a ratio needs at least {LEAST_PROCESSES} processes, not {count}")
    medians = np.sort([np.median(one) for one in processes])
    cut = int(_TRIMMED * count)
    kept = medians[cut : count - cut]
    winsorised = np.clip(medians, kept[0], kept[-1])
    squares = float(np.square(winsorised - winsorised.mean()).sum())
    return _Location(float(kept.mean()), math.sqrt(squares / (len(kept) * (len(kept) - 1))), len(kept) - 1)
