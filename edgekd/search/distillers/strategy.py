"""What is proposed next: by the sampler behind a few published candidates, or by DetKDS' divide and conquer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Protocol

from edgekd.distill.searched.options import Kind
from edgekd.recipe.search import EvolutionRecipe
from edgekd.search.distillers.candidates import CONTROL, Candidate
from edgekd.search.distillers.evolution import Evolution, OfOneKind, OfWeights, with_weights
from edgekd.search.distillers.space import Space
from edgekd.search.distillers.study import Tried


@dataclass(frozen=True)
class Proposal:
    """What is tried next.

    Attributes:
        candidate: None leaves it to the sampler.
        stage: in words.
    """

    candidate: Candidate | None
    stage: str


class Strategy(Protocol):
    """Proposes by what was tried."""

    def next(self, tried: Sequence[Tried], running: int = 0) -> Proposal | None:
        """None: there is nothing left to try.

        Args:
            running: trials that were begun and have not ended.
        """
        ...


@dataclass(frozen=True)
class Budgeted:
    """The control, what the paper found for each kind alone, in the order of the kinds, then the sampler."""

    space: Space
    order: Sequence[Kind]

    def next(self, tried: Sequence[Tried], running: int = 0) -> Proposal | None:
        """See `Strategy`."""
        published = [one for kind in self.order if (one := self.space.published(kind))]
        first = [Proposal(CONTROL, "control"), *(Proposal(one, "published") for one in published)]
        begun = len(tried) + running
        return first[begun] if begun < len(first) else Proposal(None, "sampler")


@dataclass(frozen=True)
class Divide:
    """The control, one evolution per kind, then the weights of what these found.

    Everything follows from what was tried, so that a search that was killed goes on where it was.
    """

    space: Space
    order: Sequence[Kind]
    rules: EvolutionRecipe
    seed: int

    def next(self, tried: Sequence[Tried], running: int = 0) -> Proposal | None:
        """See `Strategy`; each trial depends on the one before, so none may run."""
        assert running == 0
        if not tried:
            return Proposal(CONTROL, "control")
        scores = [-inf if one.score is None else one.score for one in tried[1:]]
        found: dict[Kind, Any] = {}
        for place, kind in enumerate(self.order):
            of_kind = Evolution(self.rules, self.rules.iterations, OfOneKind(self.space.kinds[kind]), self.seed + place)
            scores = _replayed(of_kind, scores)
            if (parts := of_kind.ask()) is not None:
                return Proposal({kind: parts}, kind)
            if of_kind.best and isfinite(of_kind.best[0]):
                found[kind] = of_kind.best[1]
        if len(found) < 2:
            return None
        of_weights = OfWeights.of({kind: self.space.kinds[kind] for kind in found})
        weights = Evolution(self.rules, self.rules.weights_iterations, of_weights, self.seed + len(self.order))
        _replayed(weights, scores)
        asked = weights.ask()
        return None if asked is None else Proposal(with_weights(found, asked), "weights")


def _replayed(evolution: Evolution[Any], scores: list[float]) -> list[float]:
    """Told as many scores as it asks for; the scores left."""
    while scores and evolution.ask() is not None:
        evolution.tell(scores[0])
        scores = scores[1:]
    return scores
