"""What is proposed, without any training: by made-up scores."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from edgekd.distill.searched.options import CHOICES, DEFAULTS, WEIGHTS
from edgekd.recipe.search import EvolutionRecipe, SearchRecipe
from edgekd.search.distillers.candidates import Candidate, candidate_of, entries_of, in_words, methods_of, params_of
from edgekd.search.distillers.guidance import claims, ordered
from edgekd.search.distillers.noise import Noise
from edgekd.search.distillers.results import best_of, tied
from edgekd.search.distillers.search import _Loop, stalled
from edgekd.search.distillers.space import Space
from edgekd.search.distillers.strategy import Budgeted, Divide
from edgekd.search.distillers.study import Tried
from edgekd.search.distillers.trials import FIRST_STEPS, Ended, Look, Outcome

SPACE = Space({kind: {**choices, "weight": WEIGHTS} for kind, choices in CHOICES.items()}, {})
RULES = EvolutionRecipe.model_validate({"population": 3, "iterations": 2, "weights_iterations": 2})


def tried(number: int, score: float | None, candidate: Candidate | None = None) -> Tried:
    outcome = Outcome("complete", [score], "", 10) if score is not None else Outcome("pruned", [0.1], "lags", 5)
    return Tried(number, candidate if candidate is not None else SPACE.published("global") or {}, outcome, "")


def run(strategy: Budgeted | Divide, score: Callable[[Candidate], float | None], most: int = 1000) -> list[Tried]:
    found: list[Tried] = []
    while len(found) < most and (proposal := strategy.next(found)) is not None and proposal.candidate is not None:
        one = tried(len(found), score(proposal.candidate), proposal.candidate)
        found.append(Tried(one.number, one.candidate, one.outcome, proposal.stage))
    return found


def test_how_many_there_are() -> None:
    assert SPACE.entries == 33_005
    assert SPACE.candidates == 10_781**3 * 491 * 176


def test_a_candidate_is_a_list_of_entries_and_back() -> None:
    candidate: Candidate = {"logits": {"transform": "none", "distance": "kl", "weight": 0.5}}
    params = params_of(candidate, SPACE.kinds)
    assert params["global"] == "off" and params["logits.weight"] == 0.5
    assert candidate_of(params) == candidate
    (entry,) = entries_of(candidate)
    assert entry == {
        "method": "searched", "knowledge": "logits", "transform": "none", "distance": "kl", "weight": 0.5,
    }  # fmt: skip
    ((name, config),) = methods_of(candidate)
    assert (name, config.weight) == ("searched", 0.5)
    assert in_words(candidate) == "logits plain, kl x 0.5" and in_words({}) == "control"


def test_every_candidate_of_an_evolution_is_one_that_a_recipe_can_state() -> None:
    found = run(Divide(SPACE, list(CHOICES), RULES, 0), lambda _: 0.0)
    assert all(len(methods_of(one.candidate)) == len(one.candidate) for one in found)


def test_the_budgeted_search_begins_with_the_control_and_what_was_published() -> None:
    found = run(Budgeted(SPACE, ["logits", "global"]), lambda _: 0.1)
    assert [one.stage for one in found] == ["control", "published", "published"]
    assert found[0].candidate == {} and list(found[1].candidate) == ["logits"]
    assert found[2].candidate["global"]["normalise"] == DEFAULTS["global"]["normalise"]


def test_the_division_goes_kind_after_kind_then_to_the_weights() -> None:
    order = ["logits", "global"]
    found = run(Divide(SPACE, order, RULES, 0), lambda one: float(len(one)))  # type: ignore[arg-type]
    assert [one.stage for one in found] == ["control", *["logits"] * 7, *["global"] * 7, *["weights"] * 7]
    best_logits = next(one for one in found if one.stage == "logits")  # of equal scores the first
    both = next(one for one in found if len(one.candidate) == 2)
    assert {**both.candidate["logits"], "weight": 0} == {**best_logits.candidate["logits"], "weight": 0}


def test_a_kind_whose_trials_all_failed_has_no_weight() -> None:
    found = run(
        Divide(SPACE, ["logits", "global", "fgbg"], RULES, 0), lambda one: None if list(one) == ["global"] else 0.1
    )
    kinds = {kind for one in found if one.stage == "weights" for kind in one.candidate}
    assert kinds == {"logits", "fgbg"}


def test_errors_beyond_the_teachers_say_which_kind_comes_first() -> None:
    """Localisation 0.2 behind: 0.12 for localisation and 0.08 for instance; where the student is ahead, nothing."""
    none = dict.fromkeys(("classification", "localisation", "both", "duplicate", "background", "missed"), 0.0)
    found = claims({**none, "localisation": 0.3, "missed": 0.1}, {**none, "localisation": 0.1, "missed": 0.2})
    assert {kind: round(value, 6) for kind, value in found.items()} == {
        "global": 0.0, "fgbg": 0.0, "instance": 0.08, "logits": 0.0, "localisation": 0.12,
    }  # fmt: skip
    assert ordered(CHOICES, found) == ["localisation", "instance", "global", "fgbg", "logits"]


def test_it_is_over_where_nothing_stands_out_any_more() -> None:
    found = [tried(0, 0.10), tried(1, 0.20), tried(2, 0.205), tried(3, None), tried(4, 0.19)]
    assert stalled(found, 0.01, 3)
    assert not stalled(found, 0.004, 3)
    assert not stalled(found, None, 3) and not stalled(found, 0.01, 5)
    assert stalled([tried(0, 0.1), tried(1, None), tried(2, None)], 0.01, 2)


def test_hours_are_those_of_the_call_and_leave_time_for_one_trial() -> None:
    """Half an hour ago it began; with noise and warm-up that may be before the first trial."""
    recipe = SearchRecipe.model_validate({"hours": 0.4})
    context: Any = SimpleNamespace(bound=SimpleNamespace(recipe=SimpleNamespace(search=recipe)))
    made_up: Any = None
    loop = _Loop(context, made_up, made_up, made_up, Noise(), time.monotonic() - 1800)
    assert loop._over([]) == "" and loop._over([tried(0, 0.1)]) == "0.4 hours are over"
    assert replace(loop, began=loop.began + 1000)._over([tried(0, 0.1)]) == ""


def test_the_best_and_who_cannot_be_told_from_it() -> None:
    other: Candidate = {"logits": {"transform": "none", "distance": "kl", "weight": 1.0}}
    found = [tried(0, 0.10, {}), tried(1, 0.195, other), tried(2, 0.195, other), tried(3, 0.2), tried(4, None)]
    best = best_of(found)
    assert best is not None and best.number == 3
    assert [one.number for one in tied(found, best, 0.01)] == [1]
    assert tied(found, best, None) == [] and best_of([tried(0, None)]) is None


def ended(items: dict[str, float], most: float = 10.0) -> Ended | None:
    look = Look(most, lambda _pass, _ap: False)
    try:
        for _ in range(FIRST_STEPS):
            look.batch(items)
    except Ended as error:
        return error
    return None


def test_a_loss_that_drowns_the_students_own_is_dropped() -> None:
    assert ended({"box_loss": 2.0, "cls_loss": 1.0, "kd/searched.global": 29.0}) is None
    dropped = ended({"box_loss": 2.0, "cls_loss": 1.0, "kd/searched.global": 31.0})
    assert dropped is not None and dropped.status == "failed"
    assert dropped.why == "the distillation loss is 10.3 times the student's own"
    assert ended({"box_loss": 2.0, "kd/searched.global": float("nan")}) is not None


def test_what_lags_behind_is_ended_after_its_pass() -> None:
    seen: list[Any] = []

    def lags(done: int, value: float) -> bool:
        seen.append((done, value))
        return value < 0.2

    look = Look(10.0, lags)
    look.epoch({"ap": 0.3})
    try:
        look.epoch({"ap": 0.1})
    except Ended as error:
        assert (error.status, error.why) == ("pruned", "lags behind after pass 2")
    assert seen == [(1, 0.3), (2, 0.1)] and look.outcome.values == [0.3, 0.1]
