"""Finals and the trainings that they and the noise share, on scores made up by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scipy import stats

from edgekd.errors import InputError
from edgekd.search.distillers.candidates import CONTROL, Candidate
from edgekd.search.distillers.finals import best, hold, winner
from edgekd.search.distillers.noise import measure
from edgekd.search.distillers.results import tied
from edgekd.search.distillers.study import Tried
from edgekd.search.distillers.trainings import Trainings, Wanted
from edgekd.search.distillers.trials import Outcome

LUCKY: Candidate = {"logits": {"distance": "l1", "weight": 1.0}}
STEADY: Candidate = {"logits": {"distance": "l1", "weight": 5.0}}
WORSE: Candidate = {"logits": {"distance": "l1", "weight": 9.0}}
NAMES = {1.0: "lucky", 5.0: "steady", 9.0: "worse"}
# By seed; that of the trials is 0.
SCORES: dict[str, list[float | None]] = {
    "control": [0.20, 0.21, 0.19, 0.20],
    "lucky": [0.30, 0.20, 0.19, 0.21],
    "steady": [0.26, 0.26, 0.23, 0.25],
    "worse": [0.25, None, 0.30, 0.30],
}


def name_of(candidate: Candidate) -> str:
    return NAMES[float(candidate["logits"]["weight"])] if candidate else "control"


def outcome_of(candidate: Candidate, seed: int) -> Outcome:
    score = SCORES[name_of(candidate)][seed]
    return Outcome("failed", why="the loss is nan", steps=1) if score is None else Outcome(values=[score] * 3, steps=2)


class Trainer:
    """Trains in no time, and notes what."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []

    def __call__(self, wanted: Wanted, told: Callable[[int, Outcome], None]) -> None:
        for place, (candidate, seed) in enumerate(wanted):
            self.done.append((name_of(candidate), seed))
            told(place, outcome_of(candidate, seed))


def trials(*candidates: Candidate) -> list[Tried]:
    return [Tried(number, one, outcome_of(one, 0), "sampler") for number, one in enumerate(candidates)]


def test_the_steady_one_wins_over_the_lucky_one(tmp_path: Path) -> None:
    """Differences of steady: 0.05, 0.04, 0.05; of lucky: -0.01, 0, 0.01; worse did not end with seed 1."""
    trainer, tried = Trainer(), trials(CONTROL, WORSE, LUCKY, STEADY)
    finals = hold(Trainings(tmp_path, {}, trainer), tried, 3, range(1, 4))
    assert finals and [one.number for one in finals.finalists] == [2, 3, 1]
    lucky, steady, worse = finals.finalists
    assert finals.control == pytest.approx((0.21, 0.19, 0.20)) and finals.seeds == (1, 2, 3)
    assert steady.gain == pytest.approx(0.14 / 3) and lucky.gain == pytest.approx(0, abs=1e-12)
    interval = stats.t.interval(0.95, 2, loc=0.14 / 3, scale=stats.sem([0.05, 0.04, 0.05]))
    assert (steady.low, steady.high) == pytest.approx(interval)
    assert worse.scores[0] is None and (worse.gain, worse.low, worse.high) == (None, None, None)
    won = winner(tried, finals)
    assert won is not None and won.number == 3
    assert finals.steps == 11 * 2 + 1 and len(trainer.done) == 12
    assert {seed for _, seed in trainer.done} == {1, 2, 3}, "the seed that chose takes no part"


def test_where_nobody_gains_the_control_wins(tmp_path: Path) -> None:
    tried = trials(CONTROL, LUCKY)
    finals = hold(Trainings(tmp_path, {}, Trainer()), tried, 3, range(1, 3))
    assert finals and finals.finalists[0].gain == pytest.approx(-0.005)
    won = winner(tried, finals)
    assert won is not None and won.number == 0


def test_of_one_seed_there_is_a_gain_and_no_interval(tmp_path: Path) -> None:
    finals = hold(Trainings(tmp_path, {}, Trainer()), trials(CONTROL, STEADY), 1, range(1, 2))
    assert finals and finals.finalists[0].gain == pytest.approx(0.05) and finals.finalists[0].low is None


def test_who_enters() -> None:
    """By score, each candidate once, never the control; those that did not end do not."""
    tried = [
        *trials(CONTROL, STEADY, LUCKY, STEADY),
        Tried(4, WORSE, Outcome("pruned", [0.9, 0.9, 0.9]), "sampler"),
    ]
    assert [one.number for one in best(tried, 9)] == [2, 1]
    assert [one.number for one in best(tried, 1)] == [2]


def test_a_seed_without_a_control_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seeds 1, 2, 3 without the second: differences of 0.05 twice."""
    monkeypatch.setitem(SCORES, "control", [0.20, 0.21, None, 0.20])
    tried = trials(CONTROL, STEADY)
    finals = hold(Trainings(tmp_path, {}, Trainer()), tried, 1, range(1, 4))
    assert finals and (finals.seeds, finals.control) == ((1, 3), (0.21, 0.20))
    assert finals.finalists[0].scores == (0.26, 0.25) and finals.finalists[0].gain == pytest.approx(0.05)
    monkeypatch.setitem(SCORES, "control", [0.20, None, None, None])
    assert hold(Trainings(tmp_path / "none", {}, Trainer()), tried, 1, range(1, 4)) is None


def test_a_control_that_did_not_end_never_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORES, "control", [None, 0.21, 0.19, 0.20])
    tried = trials(CONTROL, LUCKY)
    finals = hold(Trainings(tmp_path, {}, Trainer()), tried, 1, range(1, 3))
    assert finals and finals.finalists[0].gain == pytest.approx(-0.005)
    assert winner(tried, finals) is None


def test_who_is_within_the_noise_of_the_winner() -> None:
    """Whose score differs by no more, on either side: 0.30 and 0.25 of 0.26, each once."""
    tried = trials(CONTROL, LUCKY, STEADY, WORSE)
    assert [one.number for one in tied(tried, tried[2], 0.011)] == [3]
    assert [one.number for one in tied(tried, tried[2], 0.041)] == [1, 3]


@pytest.mark.parametrize(("most", "seeds"), [(0, range(1, 3)), (3, range(1, 1))])
def test_nothing_is_trained_where_nothing_is_to_be_compared(tmp_path: Path, most: int, seeds: range) -> None:
    trainer = Trainer()
    assert hold(Trainings(tmp_path, {}, trainer), trials(CONTROL, LUCKY), most, seeds) is None
    assert hold(Trainings(tmp_path, {}, trainer), trials(CONTROL), 3, range(1, 3)) is None
    assert not trainer.done


def test_noise_and_finals_share_their_trainings(tmp_path: Path) -> None:
    """And what the errors' count trained ahead of them: the control of seed 0."""
    trainer = Trainer()
    trainings = Trainings(tmp_path, {}, trainer)
    trainings.keep(CONTROL, 0, outcome_of(CONTROL, 0))
    noise = measure(trainings, STEADY, range(4))
    assert noise.control == pytest.approx((0.20, 0.21, 0.19, 0.20)) and noise.steps == 8 * 2
    assert len(trainer.done) == 7 and ("control", 0) not in trainer.done
    hold(trainings, trials(CONTROL, STEADY, LUCKY), 2, range(1, 4))
    assert trainer.done[7:] == [("lucky", 1), ("lucky", 2), ("lucky", 3)]


def test_what_was_trained_before_a_kill_is_not_trained_again(tmp_path: Path) -> None:
    class Killed(Trainer):
        def __call__(self, wanted: Wanted, told: Callable[[int, Outcome], None]) -> None:
            super().__call__(wanted[:2], told)
            raise KeyboardInterrupt

    wanted = [(STEADY, 1), (LUCKY, 1), (CONTROL, 1)]
    with pytest.raises(KeyboardInterrupt):
        Trainings(tmp_path, {"steps": 2}, Killed()).of(wanted, "finals")
    trainer = Trainer()
    found = Trainings(tmp_path, {"steps": 2}, trainer).of(wanted, "finals")
    assert trainer.done == [("control", 1)]
    assert [fmean(one.values) for one in found] == pytest.approx([0.26, 0.20, 0.21])


def test_what_was_trained_on_something_else_is_not_used(tmp_path: Path) -> None:
    Trainings(tmp_path, {"steps": 2}, Trainer()).of([(CONTROL, 1)], "finals")
    assert Trainings(tmp_path, {"steps": 3}, Trainer()).known(CONTROL, 1) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: [],
        lambda kept: {**kept, "trained": {"a": 1}},
        lambda kept: {**kept, "trained": [{"distill": []}]},
        lambda kept: {**kept, "trained": [{**kept["trained"][0], "outcome": {"none": 1}}]},
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    Trainings(tmp_path, {}, Trainer()).of([(CONTROL, 1)], "finals")
    file = tmp_path / "proxy" / "trained.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(InputError, match=r"trained\.json: does not hold what edgekd wrote there"):
        Trainings(tmp_path, {}, Trainer())
