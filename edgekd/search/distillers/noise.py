"""How much scores differ by chance: a candidate and the control, with several seeds each.

Trials of one search share a seed, so what separates two candidates is compared with how much such a difference changes
from seed to seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import stdev
from typing import Any

from edgekd.atomic import read_json, write_json
from edgekd.progress import progress, say
from edgekd.search.distillers.candidates import CONTROL, Candidate, entries_of, in_words
from edgekd.search.distillers.trials import Runner
from edgekd.stages.context import Context

_FILE = "proxy/noise.json"


@dataclass(frozen=True)
class Noise:
    """Of the difference between two candidates at one seed.

    Attributes:
        deviation: standard deviation over seeds of candidate less control, in AP; None where it is not known.
        candidate, control: their scores per seed.
        steps: that it took.
    """

    deviation: float | None
    candidate: tuple[float, ...]
    control: tuple[float, ...]
    steps: int

    @classmethod
    def of(cls, candidate: Sequence[float], control: Sequence[float], steps: int) -> Noise:
        """Of pairs of scores."""
        differences = [one - other for one, other in zip(candidate, control, strict=True)]
        deviation = stdev(differences) if len(differences) > 1 else None
        return cls(deviation, tuple(candidate), tuple(control), steps)


def measure(context: Context, runner: Runner, candidate: Candidate, identity: dict[str, Any]) -> Noise:
    """Stage search_noise, with the recipe's number of seeds."""
    repeats, seed = context.bound.recipe.search.repeats, context.bound.recipe.seed
    if repeats < 2:
        return Noise(None, (), (), 0)
    inputs = {**identity, "candidate": entries_of(candidate), "repeats": repeats}

    def action() -> list[str]:
        found, steps = _repeated(runner, candidate, range(seed, seed + repeats))
        if len(found) < 2:
            say(f"noise: not measured, {in_words(candidate)} did not end")
        write_json(context.path / _FILE, asdict(Noise.of([a for a, _ in found], [b for _, b in found], steps)))
        return [_FILE]

    context.stage("search_noise", inputs, action)
    content = read_json(context.path / _FILE)
    return Noise(content["deviation"], tuple(content["candidate"]), tuple(content["control"]), content["steps"])


def _repeated(runner: Runner, candidate: Candidate, seeds: range) -> tuple[list[tuple[float, float]], int]:
    """(candidate, control) per seed, and the steps that were trained."""
    found, steps = [], 0
    with progress("noise", 2 * len(seeds)) as advance:
        for seed in seeds:
            outcomes = []
            for one in (candidate, CONTROL):
                outcomes.append(runner.run(one, seed))
                advance()
            steps += sum(outcome.steps for outcome in outcomes)
            scores = [outcome.score for outcome in outcomes]
            if scores[0] is not None and scores[1] is not None:
                found.append((scores[0], scores[1]))
    return found, steps
