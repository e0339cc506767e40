"""Trials in several processes of this machine: the study is the truth, whatever happens to who runs them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.errors import InputError
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers import side_by_side
from edgekd.search.distillers.candidates import CONTROL
from edgekd.search.distillers.side_by_side import SideBySide, train
from edgekd.search.distillers.strategy import Budgeted
from edgekd.search.distillers.study import Study, Tried
from edgekd.search.distillers.trials import Outcome
from edgekd.search.pools.contract import Pool
from edgekd.search.pools.processes import Processes
from tests.search.distillers.test_study import SPACE
from tests.search.pools import short


def searched(
    folder: Path, pool: Pool, trials: int = 8, most: int | None = None, **recipe: Any
) -> tuple[list[Tried], list[str]]:
    """Go on with the study in `folder` until so many trials have ended; and what was said."""
    study = Study(folder, SPACE, SearchRecipe.model_validate({"pruner": "none", **recipe}), 7, 3)
    said: list[str] = []

    def over(tried: list[Tried]) -> str:
        return "enough" if len(tried) >= trials else ""

    loop = SideBySide(
        study, Budgeted(SPACE, list(SPACE.kinds)), pool, 7, most or trials, over, lambda tried, line: said.append(line)
    )
    with pool:
        assert loop.run() == "enough"
    return study.finished(), said


def starts(folder: Path, number: int) -> list[int]:
    """Processes that began a trial."""
    return [int(line) for line in (folder / f"started-{number}").read_text().splitlines()]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_trials_run_in_processes_that_end_with_the_search(tmp_path: Path) -> None:
    """Each is told in the study with its passes; the control is the first one that is begun."""
    pool = Processes(short.work(tmp_path, seconds=0.05), 2, tmp_path / "log")
    tried, said = searched(tmp_path, pool)
    assert [one.number for one in tried] == list(range(8))
    assert tried[0].candidate == CONTROL
    for one in tried:
        assert one.outcome.status == "complete"
        full = short.score(one.candidate)
        assert one.outcome.values == pytest.approx([full / 3, 2 * full / 3, full])
    ran = {
        place for number in range(8) if (tmp_path / f"started-{number}").is_file() for place in starts(tmp_path, number)
    }
    assert len(ran) == 2
    assert not any(is_alive(process) for process in ran)
    assert len(said) == 8


def test_trainings_that_nobody_ends_early_are_told_with_their_places(tmp_path: Path) -> None:
    """The worker of the second dies once."""
    candidates = [CONTROL, *(one for kind in SPACE.kinds if (one := SPACE.published(kind)))]
    jobs = [{"candidate": candidate, "seed": seed} for seed, candidate in enumerate(candidates)]
    told: dict[int, Outcome] = {}
    with Processes(short.work(tmp_path, die=[1]), 2, tmp_path / "log") as pool:
        train(pool, jobs, told.__setitem__)
    found = [told[place] for place in range(len(jobs))]
    assert [one.values[-1] for one in found] == pytest.approx([short.score(one) for one in candidates])
    assert all(one.status == "complete" and len(one.values) == 3 for one in found)
    assert len(jobs) > 1 and len(starts(tmp_path, 1)) == 2


def test_a_training_whose_workers_all_die_has_failed(tmp_path: Path) -> None:
    told: dict[int, Outcome] = {}
    with Processes(short.work(tmp_path, die=[0], deaths=9), 1, tmp_path / "log") as pool:
        train(pool, [{"candidate": CONTROL, "seed": 0}], told.__setitem__)
    assert (told[0].status, told[0].why) == ("failed", "its process was killed by signal 9, 3 times")


def test_a_worker_that_is_killed_costs_its_trial_a_try(tmp_path: Path) -> None:
    pool = Processes(short.work(tmp_path, die=[1]), 2, tmp_path / "log")
    tried, said = searched(tmp_path, pool, 4)
    assert "trial 1: its process was killed by signal 9; begun again" in said
    first, second = starts(tmp_path, 1)
    assert first != second
    (again,) = [one for one in tried if one.number == 1]
    assert again.outcome.status == "complete" and len(again.outcome.values) == 3


def test_a_trial_whose_workers_always_die_is_left(tmp_path: Path) -> None:
    pool = Processes(short.work(tmp_path, die=[1], deaths=9), 2, tmp_path / "log")
    tried, _ = searched(tmp_path, pool, 3)
    (left,) = [one for one in tried if one.number == 1]
    assert (left.outcome.status, left.score) == ("failed", None)
    assert left.outcome.why == "its process was killed by signal 9, 3 times"


def test_the_study_ends_trials_early(tmp_path: Path) -> None:
    """When the fourth is trained two have ended, of which one is not the control: it, and all behind it, are worse."""
    pool = Processes(short.work(tmp_path, falling=True), 2, tmp_path / "log")
    tried, _ = searched(tmp_path, pool, 12, pruner="halving")
    assert (tried[0].candidate, tried[0].outcome.status) == (CONTROL, "complete")
    trained = [one.outcome for one in tried if (tmp_path / f"started-{one.number}").is_file()]
    assert len(trained) > 3 and {(one.status, one.steps) for one in trained[3:]} == {("pruned", 4)}


def test_processes_are_spread_over_the_gpus(tmp_path: Path) -> None:
    """Three on two, whose names are all that matters here; what takes the place of one that died is on one of them."""
    jobs = [{"candidate": CONTROL, "seed": seed} for seed in range(3)]
    with Processes(short.work(tmp_path, die=[0]), 3, tmp_path / "log", ["4", "7"]) as pool:
        train(pool, jobs, lambda place, outcome: None)
    first, *others = ((tmp_path / f"gpu-{number}").read_text().split() for number in range(3))
    assert (first[0], others) == ("4", [["7"], ["4"]])
    assert len(first) == 2 and first[1] in ("4", "7")


@pytest.mark.parametrize(
    ("device", "shown", "gpus"), [(None, "", ["0", "1"]), (None, "5, 3", ["5", "3"]), (1, "", []), ("cpu", "5,3", [])]
)
def test_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch, device: Any, shown: str, gpus: list[str]) -> None:
    """Where the recipe names one, all trials are on it."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    bound: Any = SimpleNamespace(recipe=SimpleNamespace(train={"device": device}))
    assert side_by_side._gpus(bound) == gpus


def test_an_error_of_a_worker_is_the_searchs_and_a_later_one_goes_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trial 1: no"):
        searched(tmp_path, Processes(short.work(tmp_path, fault=[1]), 1, tmp_path / "log"), 4)
    tried, _ = searched(tmp_path, Processes(short.work(tmp_path), 2, tmp_path / "log"), 4)
    assert [one.number for one in tried] == [0, 1, 2, 3]
    assert len(starts(tmp_path, 1)) == 2 and len(starts(tmp_path, 0)) == 1
