"""The study: what is kept, gone on with, and the same for one seed. No training: scores are made up."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers.candidates import Candidate
from edgekd.search.distillers.space import Space
from edgekd.search.distillers.study import JOURNAL, Study, Trial, require_optuna, twin
from edgekd.search.distillers.trials import Outcome

SPACE = Space(
    {
        "global": {"attention": ("none", "channel"), "distance": ("l1", "l2"), "weight": (1.0, 5.0)},
        "logits": {"transform": ("none", "softmax_c"), "distance": ("kl",), "weight": (1.0, 2.0)},
    },
    {},
)


def study(folder: Path, **changes: object) -> Study:
    return Study(folder, SPACE, SearchRecipe.model_validate({"trials": 12, **changes}), 7, 3)


def score(candidate: Candidate) -> float:
    own = candidate.get("global", {})
    return 0.1 + 0.1 * (own.get("attention") == "channel") + 0.05 * (own.get("weight") == 5.0)


def train(trial: Trial) -> Outcome:
    """Three passes of two steps, that rise to the score."""
    outcome = Outcome()
    for done in (1, 2, 3):
        outcome.steps += 2
        outcome.values.append(score(trial.candidate) * done / 3)
        if trial.lags(done, outcome.values[-1]):
            outcome.status, outcome.why = "pruned", "lags"
            break
    return outcome


def go_on(kept: Study, trials: int) -> list[Candidate]:
    while len(kept.finished()) < trials:
        trial = kept.begin(None, "sampler")
        kept.end(trial, train(trial))
    return [one.candidate for one in kept.finished()]


@pytest.mark.parametrize(
    ("sampler", "pruner"), [("tpe", "halving"), ("tpe", "hyperband"), ("evolution", "halving"), ("random", "none")]
)
def test_one_seed_one_search_however_often_it_is_killed(tmp_path: Path, sampler: str, pruner: str) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    changes = {"sampler": sampler, "pruner": pruner}
    whole = go_on(study(tmp_path / "whole", **changes), 12)
    go_on(study(tmp_path / "killed", **changes), 5)
    begun = study(tmp_path / "killed", **changes).begin(None, "sampler")  # killed while it trains ...
    begun.lags(1, score(begun.candidate) / 3)  # ... after its first pass
    found = study(tmp_path / "killed", **changes)
    assert go_on(found, 12) == whole
    assert [one.number for one in found.finished()] == list(range(12))


def test_half_a_line_at_the_end_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    """Of a power cut; of the trial in hand nothing else is lost."""
    go_on(study(tmp_path), 3)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:-7])
    found = study(tmp_path)
    assert journal.read_bytes().startswith(whole)
    go_on(found, 5)
    assert [one.number for one in study(tmp_path).finished()] == [0, 1, 2, 3, 4]


def test_the_lock_of_a_search_that_was_killed_while_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's: a link to the journal, which it waits for half a minute, or for ever if nothing is where it points."""
    monkeypatch.chdir(tmp_path)
    go_on(study(Path()), 1)
    for suffix in (".lock", ".lock5ac1"):
        Path(JOURNAL + suffix).symlink_to("runs/search/" + JOURNAL)
    began = time.monotonic()
    go_on(study(Path()), 2)
    assert time.monotonic() - began < 25
    assert [path.name for path in tmp_path.iterdir()] == [JOURNAL]


@pytest.mark.parametrize("damage", [b"{\n", b"\x00\xff\n", b"[1]\n"])
def test_a_damaged_journal_is_one_line(tmp_path: Path, damage: bytes) -> None:
    go_on(study(tmp_path), 1)
    with (tmp_path / JOURNAL).open("ab") as stream:
        stream.write(damage)
    with pytest.raises(InputError, match=r"study.journal: is damaged \(\w+\); choose another --out, or --fresh"):
        study(tmp_path)


def test_what_is_kept_of_a_trial(tmp_path: Path) -> None:
    kept = study(tmp_path)
    published: Candidate = {"global": {"attention": "channel", "distance": "l1", "weight": 5.0}}
    trial = kept.begin(published, "published")
    assert trial.candidate == published
    kept.end(trial, Outcome("complete", [0.1, 0.2, 0.3], "", 6))
    failed = kept.begin({}, "control")
    kept.end(failed, Outcome("failed", [], "the loss is not finite", 1))
    one, other = study(tmp_path).finished()
    assert (one.candidate, one.stage, one.score, one.outcome.steps) == (published, "published", 0.3, 6)
    assert (other.candidate, other.score, other.outcome.why) == ({}, None, "the loss is not finite")
    assert twin(published, [one, other]) is one and twin({"logits": {}}, [one, other]) is None


def test_a_proposed_trial_that_was_killed_is_tried_again(tmp_path: Path) -> None:
    published: Candidate = {"logits": {"transform": "none", "distance": "kl", "weight": 1.0}}
    study(tmp_path).begin(published, "published")
    again = study(tmp_path)
    trial = again.begin(None, "sampler")
    assert (trial.number, trial.candidate) == (0, published)


def test_lagging_trials_end_in_their_middle_but_never_the_control(tmp_path: Path) -> None:
    kept = study(tmp_path, sampler="random")
    good: Candidate = {"global": {"attention": "channel", "distance": "l1", "weight": 5.0}}
    for _ in range(3):
        trial = kept.begin(good, "")
        kept.end(trial, train(trial))
    control = kept.begin({}, "")
    assert train(control).status == "complete"
    kept.end(control, Outcome("complete", [0.03, 0.06, 0.1], "", 6))
    bad = kept.begin({"logits": {"transform": "none", "distance": "kl", "weight": 1.0}}, "")
    assert [bad.lags(done, 0.0) for done in (1, 2, 3)] == [False, True, False]


def test_importance_names_what_decided(tmp_path: Path) -> None:
    kept = study(tmp_path, pruner="none", sampler="random")
    go_on(kept, 24)
    found = kept.importance()
    assert max(found["kinds"], key=lambda name: found["kinds"][name]) == "global"
    assert max(found["global"], key=lambda name: found["global"][name]) == "global.attention"
    assert study(tmp_path / "none" if (tmp_path / "none").mkdir() is None else tmp_path).importance() == {}


def test_without_optuna_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(EnvironmentFault, match=r"search: needs Optuna, .*: pip install 'edgekd\[search\]'"):
        require_optuna()
