"""Finals: the best few candidates meet the control again, with seeds that did not choose them.

The best of many scores looks better than it is: the seed that made it stand out took part in choosing it. So the seed
of the trials has no part here, and a gain is the mean of paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekd.measure.paired_gain import paired_gain
from edgekd.plain import listed
from edgekd.progress import say
from edgekd.search.distillers.candidates import CONTROL, in_words
from edgekd.search.distillers.study import Tried, twin
from edgekd.search.distillers.trainings import Trainings


@dataclass(frozen=True)
class Finalist:
    """One of the best.

    Attributes:
        number: of its trial.
        scores: with each seed; None: that training did not end.
        gain: mean of score less the control's; None where a training did not end.
        low, high: of its 95 % t interval; None where there is none.
    """

    number: int
    candidate: str
    scores: tuple[float | None, ...]
    gain: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Finals:
    """How the finals ended.

    Attributes:
        seeds: that control and candidates were trained with, without those with which the control did not end.
        control: its scores.
        finalists: in the order of their trials' scores.
        steps: of these trainings, those among them that the noise needed as well.
    """

    seeds: tuple[int, ...]
    control: tuple[float, ...]
    finalists: tuple[Finalist, ...]
    steps: int


def hold(trainings: Trainings, tried: Sequence[Tried], most: int, seeds: range) -> Finals | None:
    """Train the best candidates and the control with each seed.

    Args:
        tried: the search's trials.
        most: candidates.
        seeds: others than the trials'.

    Returns:
        None where nothing is to be compared: no seed, no candidate, or a control that ends with no seed.
    """
    entered = best(tried, most)
    if not entered or not seeds:
        return None
    sides = [CONTROL, *(one.candidate for one in entered)]
    outcomes = trainings.of([(side, seed) for seed in seeds for side in sides], "finals")
    rows = [
        [one.score for one in outcomes[place : place + len(sides)]] for place in range(0, len(outcomes), len(sides))
    ]
    ended = {seed: row for seed, row in zip(seeds, rows, strict=True) if row[0] is not None}
    if len(ended) < len(seeds):
        say(f"finals: the control did not end with seed {listed(str(seed) for seed in seeds if seed not in ended)}")
    if not ended:
        return None
    control, *scores = zip(*ended.values(), strict=True)
    finalists = tuple(_finalist(one, own, control) for one, own in zip(entered, scores, strict=True))
    return Finals(tuple(ended), control, finalists, sum(one.steps for one in outcomes))


def best(tried: Sequence[Tried], most: int) -> list[Tried]:
    """The trials of the highest scores that ended, each candidate once, without the control."""
    ended = [one for one in tried if one.score is not None and one.candidate != CONTROL]
    once = [one for one in ended if twin(one.candidate, ended) is one]
    return sorted(once, key=lambda one: (-(one.score or 0.0), one.number))[:most]


def winner(tried: Sequence[Tried], finals: Finals) -> Tried | None:
    """The trial of the finalist with the largest mean gain; the control's where none gains, if it came to its end."""
    gains = {one.number: one.gain for one in finals.finalists if one.gain is not None and one.gain > 0}
    if not gains:
        control = twin(CONTROL, tried)
        return control if control and control.score is not None else None
    number = max(gains, key=lambda one: (gains[one], -one))
    return next(one for one in tried if one.number == number)


def _finalist(tried: Tried, scores: Sequence[float | None], control: Sequence[float]) -> Finalist:
    ended = [one for one in scores if one is not None]
    if len(ended) < len(scores):
        return Finalist(tried.number, in_words(tried.candidate), tuple(scores), None, None, None)
    gain = paired_gain(ended, control)
    return Finalist(tried.number, in_words(tried.candidate), tuple(scores), gain.mean, gain.low, gain.high)
