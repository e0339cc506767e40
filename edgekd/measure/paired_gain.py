"""How much more AP the students have than their controls, over several seeds: mean and interval.

A seed decides initialisation and batches, and a control shares both with its student. So the differences within the
pairs are what varies; their mean has a Student's t interval of n - 1 degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class PairedGain:
    """AP of the students minus AP of their controls, in 0..1.

    Attributes:
        mean: over the seeds.
        low, high: of the interval; None for one seed, whose gain has none.
        level: confidence of the interval.
        differences: of each seed, in the order given.
    """

    mean: float
    low: float | None
    high: float | None
    level: float
    differences: tuple[float, ...]


def paired_gain(students: Sequence[float], controls: Sequence[float], level: float = LEVEL) -> PairedGain:
    """The gain over seeds.

    Args:
        students, controls: AP (n,) of each seed, in one order.
        level: confidence in 0..1.

    Raises:
        ValueError: no seed, or not as many students as controls.
    """
    if len(students) != len(controls) or not students:
        raise ValueError(f"{len(students)} students and {len(controls)} controls make no pairs")
    differences = np.asarray(students, dtype=float) - np.asarray(controls, dtype=float)
    mean, count = float(differences.mean()), len(differences)
    low = high = None
    if count > 1:
        from scipy.stats import t

        half = float(t.ppf((1 + level) / 2, count - 1)) * float(differences.std(ddof=1)) / math.sqrt(count)
        low, high = mean - half, mean + half
    return PairedGain(mean, low, high, level, tuple(differences.tolist()))
