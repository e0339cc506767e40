"""How much scores differ by chance: a candidate and the control, with several seeds each.

Trials of one search share a seed, so what separates two candidates is compared with how much such a difference changes
from seed to seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edgekd.progress import say
from edgekd.search.distillers.candidates import CONTROL, Candidate, in_words
from edgekd.search.distillers.trainings import Trainings

_OF_A_NORMAL = 1.04836  # standard deviation over the median |a - b|: 1 / (sqrt(2) Phi^-1(3/4))


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation by the median distance of pairs; None of fewer than two values.

    Of five values one may be anything at all, such as that of a training that collapsed; of fewer none. Values of a
    normal distribution give on average 1.10 times its deviation when they are five, 1.30 times when they are three.

    Source: Shamos 1976, Geometry and statistics: problems at the interface. Its efficiency is 86 % of the usual one's.
    """
    pairs = [abs(one - other) for place, one in enumerate(values) for other in values[:place]]
    return _OF_A_NORMAL * median(pairs) if pairs else None


@dataclass(frozen=True)
class Noise:
    """Of the difference between two candidates at one seed.

    Attributes:
        deviation: over seeds, of candidate less control, in AP; None where it is not known. See `spread`.
        candidate, control: their scores per seed.
        steps: of all these trainings, the control's for the errors among them.
    """

    deviation: float | None = None
    candidate: tuple[float, ...] = ()
    control: tuple[float, ...] = ()
    steps: int = 0

    @classmethod
    def of(cls, candidate: Sequence[float], control: Sequence[float], steps: int) -> Noise:
        """Of pairs of scores."""
        differences = [one - other for one, other in zip(candidate, control, strict=True)]
        return cls(spread(differences), tuple(candidate), tuple(control), steps)


def measure(trainings: Trainings, candidate: Candidate, seeds: range) -> Noise:
    """Train the candidate and the control with each seed; not known of fewer than two pairs that end."""
    outcomes = trainings.of([(one, seed) for seed in seeds for one in (candidate, CONTROL)], "noise")
    scores = [(a.score, b.score) for a, b in zip(outcomes[::2], outcomes[1::2], strict=True)]
    found = [(a, b) for a, b in scores if a is not None and b is not None]
    if len(found) < 2:
        say(f"noise: not measured, {in_words(candidate)} did not end")
    steps = sum(one.steps for one in outcomes)
    return Noise.of([a for a, _ in found], [b for _, b in found], steps)
