"""DetKDS' evolution, as ask and tell: what to try next follows from what was told, and from a seed, alone.

Algorithm 1 of Li et al., ICML 2024: a population P of random candidates; then T times, of a random part r of P one of
the k best becomes the parent of a mutated child, tried beside a random candidate E; the better of the two joins
P, and the worst of P leaves it. What E is drawn from is not said there: here from the whole space. Crossover stands in
the text, and in the algorithm for the weights alone: so it is here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import ceil
from typing import Generic, Protocol, TypeVar

from edgekd.recipe.search import EvolutionRecipe
from edgekd.search.distillers.candidates import Candidate, Parts
from edgekd.search.distillers.space import WEIGHT, Choices

C = TypeVar("C")


class Variation(Protocol[C]):
    """How candidates are made."""

    def draw(self, rng: random.Random) -> C:
        """At random from the whole space."""
        ...

    def mutate(self, rng: random.Random, parent: C) -> C:
        """One choice of the parent's is another."""
        ...

    def cross(self, rng: random.Random, first: C, second: C) -> C:
        """Each choice is of one of two parents; a variation without crossover gives the first one."""
        ...


class Evolution(Generic[C]):
    """A search by evolution. `ask` gives what is tried next, `tell` its score; one after the other, in turns.

    Attributes:
        best: the best candidate so far and its score; None before the first was told.
    """

    def __init__(self, rules: EvolutionRecipe, iterations: int, variation: Variation[C], seed: int) -> None:
        self._rules, self._iterations, self._variation = rules, iterations, variation
        self._rng = random.Random(seed)
        self._population: list[tuple[float, C]] = []
        self._pending: list[C] = []
        self._tried: list[tuple[float, C]] = []
        self._done = 0
        self.best: tuple[float, C] | None = None

    def ask(self) -> C | None:
        """The next candidate; None once all iterations are done. The same one until it is told."""
        if not self._pending:
            if len(self._population) < self._rules.population:
                self._pending = [self._variation.draw(self._rng)]
            elif self._done < self._iterations:
                self._pending = [self._child(), self._variation.draw(self._rng)]
            else:
                return None
        return self._pending[len(self._tried)]

    def tell(self, score: float) -> None:
        """The score of what was asked last; of one that failed, or was dropped, -inf."""
        candidate = self._pending[len(self._tried)]
        self._tried.append((score, candidate))
        if self.best is None or score > self.best[0]:
            self.best = (score, candidate)
        if len(self._tried) < len(self._pending):
            return
        full = len(self._population) >= self._rules.population
        self._population.append(max(self._tried, key=lambda one: one[0]))
        if full:
            self._population.remove(min(self._population, key=lambda one: one[0]))
            self._done += 1
        self._pending, self._tried = [], []

    def _child(self) -> C:
        first, second = self._parent(), self._parent()
        return self._variation.mutate(self._rng, self._variation.cross(self._rng, first, second))

    def _parent(self) -> C:
        count = max(1, ceil(self._rules.sample * len(self._population)))
        sampled = self._rng.sample(self._population, count)
        best = sorted(sampled, key=lambda one: -one[0])[: self._rules.top]
        return self._rng.choice(best)[1]


@dataclass(frozen=True)
class OfOneKind:
    """Candidates of one kind of knowledge: parts and weight."""

    choices: Choices

    def draw(self, rng: random.Random) -> Parts:
        """See `Variation`."""
        return {key: rng.choice(allowed) for key, allowed in self.choices.items()}

    def mutate(self, rng: random.Random, parent: Parts) -> Parts:
        """See `Variation`."""
        return _mutated(rng, parent, self.choices)

    def cross(self, rng: random.Random, first: Parts, second: Parts) -> Parts:
        """None in the algorithm."""
        return first


@dataclass(frozen=True)
class OfWeights:
    """Candidates whose parts are found: one weight per kind, 0 leaves a kind out."""

    choices: Choices  # kind -> weights

    @classmethod
    def of(cls, kinds: dict[str, Choices]) -> OfWeights:
        """With 0 beside the weights of the space."""
        return cls({kind: (0.0, *choices[WEIGHT]) for kind, choices in kinds.items()})

    def draw(self, rng: random.Random) -> Parts:
        """See `Variation`."""
        return {kind: rng.choice(allowed) for kind, allowed in self.choices.items()}

    def mutate(self, rng: random.Random, parent: Parts) -> Parts:
        """See `Variation`."""
        return _mutated(rng, parent, self.choices)

    def cross(self, rng: random.Random, first: Parts, second: Parts) -> Parts:
        """Each weight is of one of the parents."""
        return {kind: rng.choice((first[kind], second[kind])) for kind in self.choices}


def with_weights(found: Candidate, weights: Parts) -> Candidate:
    """The terms that were found, with these weights; those of weight 0 are left out."""
    return {kind: {**parts, WEIGHT: weights[kind]} for kind, parts in found.items() if weights[kind] != 0.0}


def _mutated(rng: random.Random, parent: Parts, choices: Choices) -> Parts:
    """With one choice that is another; a parent without any alternative as it is."""
    keys = [key for key, allowed in choices.items() if len(allowed) > 1]
    if not keys:
        return parent
    key = rng.choice(keys)
    return {**parent, key: rng.choice([value for value in choices[key] if value != parent[key]])}
