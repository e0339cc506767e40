"""DetKDS' evolution: what is asked follows from what is told, and it finds more than chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import inf

import pytest

from edgekd.distill.searched.options import CHOICES, WEIGHTS
from edgekd.recipe.search import EvolutionRecipe
from edgekd.search.distillers.candidates import Parts
from edgekd.search.distillers.evolution import Evolution, OfOneKind, OfWeights, with_weights

KIND = OfOneKind({**CHOICES["global"], "weight": WEIGHTS})
GOAL = {"attention": "channel", "scale": "pool2", "normalise": "unit_n", "distance": "l1", "weight": 5.0}


def rules(**changes: object) -> EvolutionRecipe:
    return EvolutionRecipe.model_validate({"population": 6, "top": 2, **changes})


def alike(parts: Parts) -> float:
    return sum(parts[key] == value for key, value in GOAL.items())


def run(evolution: Evolution[Parts], score: Callable[[Parts], float] = alike) -> list[Parts]:
    asked = []
    while (parts := evolution.ask()) is not None:
        asked.append(parts)
        evolution.tell(score(parts))
    return asked


def test_a_population_then_two_candidates_an_iteration() -> None:
    assert len(run(Evolution(rules(), 5, KIND, 0))) == 6 + 2 * 5
    assert len(run(Evolution(rules(), 0, KIND, 0))) == 6


def test_defaults_are_the_papers() -> None:
    given = EvolutionRecipe()
    assert (given.population, given.weights_iterations, given.sample, given.top) == (20, 40, 0.9, 5)
    assert given.iterations == 20


def test_one_seed_asks_the_same_and_asking_twice_changes_nothing() -> None:
    first, second = Evolution(rules(), 8, KIND, 3), Evolution(rules(), 8, KIND, 3)
    asked = []
    while (parts := second.ask()) is not None:
        assert second.ask() == parts
        asked.append(parts)
        second.tell(alike(parts))
    assert run(first) == asked != run(Evolution(rules(), 8, KIND, 4))


def test_it_finds_better_ones_than_as_many_random_ones() -> None:
    found, drawn = [], []
    for seed in range(10):
        evolution = Evolution(rules(population=10, top=3), 30, KIND, seed)
        asked = run(evolution)
        assert evolution.best is not None and evolution.best[0] == max(map(alike, asked))
        found.append(evolution.best[0])
        rng = random.Random(seed)
        drawn.append(max(alike(KIND.draw(rng)) for _ in asked))
    assert sum(found) > sum(drawn) + 5


def test_the_better_of_child_and_random_joins_and_the_worst_leaves() -> None:
    """Told that all fail but one: that one is the parent of every child from then on, and never leaves."""
    evolution = Evolution(rules(population=3, top=1, sample=1.0), 10, KIND, 0)
    asked = run(evolution, lambda parts: 1.0 if parts == first else -inf) if (first := evolution.ask()) else []
    children = asked[3::2]
    assert all(sum(child[key] != first[key] for key in first) == 1 for child in children)


def test_a_child_differs_from_its_parent_in_one_choice() -> None:
    rng = random.Random(0)
    for _ in range(50):
        parent = KIND.draw(rng)
        child = KIND.mutate(rng, parent)
        assert sum(child[key] != parent[key] for key in parent) == 1
    fixed = OfOneKind({"attention": ("none",), "weight": (1.0,)})
    assert fixed.mutate(rng, fixed.draw(rng)) == {"attention": "none", "weight": 1.0}


def test_weights_are_crossed_and_zero_leaves_a_kind_out() -> None:
    weights = OfWeights.of({"global": {"weight": (1.0, 2.0)}, "logits": {"weight": (5.0,)}})
    assert weights.choices == {"global": (0.0, 1.0, 2.0), "logits": (0.0, 5.0)}
    rng = random.Random(0)
    first, second = {"global": 1.0, "logits": 0.0}, {"global": 2.0, "logits": 5.0}
    crossed = [weights.cross(rng, first, second) for _ in range(40)]
    assert {tuple(one.values()) for one in crossed} == {(1.0, 0.0), (1.0, 5.0), (2.0, 0.0), (2.0, 5.0)}
    parts = {"global": {"distance": "l1", "weight": 8.0}, "logits": {"distance": "kl", "weight": 8.0}}
    assert with_weights(parts, first) == {"global": {"distance": "l1", "weight": 1.0}}  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [lambda _: -inf, lambda _: 0.0])
def test_a_search_in_which_all_are_equal_comes_to_its_end(score: Callable[[Parts], float]) -> None:
    assert len(run(Evolution(rules(), 4, KIND, 0), score)) == 14
