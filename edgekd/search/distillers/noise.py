"""How much scores differ by chance: a candidate and the control, with several seeds each.

Trials of one search share a seed, so what separates two candidates is compared with how much such a difference changes
from seed to seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, TypeAlias

from edgekd.atomic import read_json, write_json
from edgekd.progress import progress, say
from edgekd.search.distillers.candidates import CONTROL, Candidate, entries_of, in_words
from edgekd.search.distillers.trials import Outcome
from edgekd.stages.context import Context

# (candidate, seed) of each training, and what is called after each -> how they ended.
Train: TypeAlias = Callable[[Sequence[tuple[Candidate, int]], Callable[[], None]], list[Outcome]]

_FILE = "proxy/noise.json"
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
        steps: that it took.
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


def measure(
    context: Context, inputs: Mapping[str, Any], candidate: Candidate, control: Outcome | None, train: Train
) -> tuple[Noise, Outcome | None, Outcome | None]:
    """Stage search_noise, with the recipe's number of seeds.

    Args:
        inputs: what decides the scores beside the candidate.
        control: outcome of the control at the search's own seed, where it is known.
        train: whoever trains.

    Returns:
        The noise, and the outcomes of candidate and control at the search's own seed, as far as they are known.
    """
    repeats, seed = context.bound.recipe.search.repeats, context.bound.recipe.seed
    if repeats < 2:
        return Noise(), None, control
    inputs = {**inputs, "candidate": entries_of(candidate), "repeats": repeats}

    def action() -> list[str]:
        pairs, steps = _repeated(train, candidate, range(seed, seed + repeats), control)
        scores = [(a.score, b.score) for a, b in pairs]
        found = [(a, b) for a, b in scores if a is not None and b is not None]
        if len(found) < 2:
            say(f"noise: not measured, {in_words(candidate)} did not end")
        noise = Noise.of([a for a, _ in found], [b for _, b in found], steps)
        write_json(context.path / _FILE, {"noise": asdict(noise), "first": [asdict(one) for one in pairs[0]]})
        return [_FILE]

    context.stage("search_noise", inputs, action)
    content: dict[str, Any] = read_json(context.path / _FILE)
    noise, (one, other) = content["noise"], content["first"]
    made = Noise(noise["deviation"], tuple(noise["candidate"]), tuple(noise["control"]), noise["steps"])
    return made, Outcome(**one), Outcome(**other)


def _repeated(
    train: Train, candidate: Candidate, seeds: range, control: Outcome | None
) -> tuple[list[tuple[Outcome, Outcome]], int]:
    """(candidate, control) per seed, and the steps that were trained."""
    taught = [(candidate, seed) for seed in seeds]
    plain = [(CONTROL, seed) for seed in seeds[bool(control) :]]
    with progress("noise", len(taught) + len(plain)) as advance:
        found = train([*taught, *plain], advance)
    controls = [*([control] if control else []), *found[len(taught) :]]
    return list(zip(found[: len(taught)], controls, strict=True)), sum(one.steps for one in found)
