"""What was tried, kept by Optuna in a journal beside the search: a killed search asks it what is done.

Each trial draws from a sampler seeded by the search's seed and the trial's number, so a search that was killed and gone
on with tries what an uninterrupted one tries.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.errors import EnvironmentFault, InputError
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers.candidates import OFF, ON, Candidate, Params, candidate_of, params_of
from edgekd.search.distillers.space import Space
from edgekd.search.distillers.trainings import Trainings
from edgekd.search.distillers.trials import Outcome

if TYPE_CHECKING:
    import optuna

JOURNAL, NAME = "study.journal", "distillers"
REDUCTION = 3  # of halving: the best third goes on


@dataclass(frozen=True)
class Tried:
    """A finished trial.

    Attributes:
        stage: of the strategy, in words.
    """

    number: int
    candidate: Candidate
    outcome: Outcome
    stage: str

    @property
    def score(self) -> float | None:
        """See `Outcome.score`."""
        return self.outcome.score


def require_optuna() -> Any:
    """The library, told to be quiet.

    Raises:
        EnvironmentFault: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise EnvironmentFault("search: needs Optuna, which is not installed: pip install 'edgekd[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """The study of one search."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        recipe: SearchRecipe,
        seed: int,
        passes: int,
        trainings: Trainings | None = None,
    ) -> None:
        """Open it, or begin it.

        Args:
            folder: is this process's alone.
            passes: of a whole trial.
            trainings: of which some may be those of a trial.

        Raises:
            InputError: the journal is damaged.
        """
        self._optuna, self._trainings = require_optuna(), trainings
        folder = folder.resolve()  # the journal's lock is a link to it, which nobody could follow from elsewhere
        _mend(folder / JOURNAL)
        self._space, self._recipe, self._seed, self._passes = space, recipe, seed, passes
        backend = self._optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
        try:
            self.study: optuna.Study = self._optuna.create_study(
                storage=self._optuna.storages.JournalStorage(backend), study_name=NAME, direction="maximize",
                load_if_exists=True, pruner=self._pruner(),
            )  # fmt: skip
        except (ValueError, LookupError, TypeError, AssertionError) as error:
            raise InputError(
                f"{folder / JOURNAL}: is damaged ({type(error).__name__}); choose another --out, or --fresh to delete "
                "it"
            ) from error

    def finished(self) -> list[Tried]:
        """Trials that ended, in their order."""
        state = self._optuna.trial.TrialState
        found = self.study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))
        return [_tried(trial) for trial in sorted(found, key=lambda one: one.number)]

    def begin(self, proposed: Candidate | None, stage: str, running: frozenset[int] = frozenset()) -> Trial:
        """The next trial: one that was interrupted, else what is proposed, else what the sampler draws.

        Args:
            running: numbers of those that run just now.
        """
        state = self._optuna.trial.TrialState
        unfinished = [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=(state.RUNNING, state.WAITING))
            if trial.number not in running
        ]
        number = unfinished[0].number if unfinished else len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self._sampler(random.Random(f"{self._seed} {number}").getrandbits(32))
        reported: frozenset[int] = frozenset()
        if unfinished and unfinished[0].state == state.RUNNING:
            reported = frozenset(unfinished[0].intermediate_values)
            trial = self._optuna.trial.Trial(self.study, unfinished[0]._trial_id)
        else:
            if proposed is not None and not unfinished:
                self.study.enqueue_trial(params_of(proposed, self._space.kinds))
            trial = self.study.ask()
        trial.set_user_attr("stage", stage)
        return Trial(trial, suggested(trial, self._space), self._passes, reported)

    def reported(self, trial: Trial) -> frozenset[int]:
        """Passes of a trial whose AP is known."""
        kept = self.study.get_trials(deepcopy=False)[trial.number]
        return frozenset(kept.intermediate_values)

    def seen(self, trial: Trial, tried: Iterable[Tried]) -> Outcome | None:
        """The outcome of a trial whose candidate was trained before, which would be the same; else None."""
        same = twin(trial.candidate, tried)
        if same is not None:
            return trial.as_of(same.outcome, f"as trial {same.number}")
        known = self._trainings and self._trainings.known(trial.candidate, self._seed)
        return trial.as_of(known, "trained before the first trial") if known else None

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Write down how a trial ended."""
        state = self._optuna.trial.TrialState
        for key in ("status", "why", "steps", "values"):
            trial.trial.set_user_attr(key, getattr(outcome, key))
        if outcome.score is not None:
            self.study.tell(trial.trial, outcome.score)
        else:
            self.study.tell(trial.trial, state=state.PRUNED)

    def importance(self) -> dict[str, dict[str, float]]:
        """How much each choice decided: of the kinds over all trials, of a kind's keys where it is on (fANOVA)."""
        groups: dict[str, list[str]] = {"kinds": list(self._space.kinds)}
        groups |= {
            kind: [f"{kind}.{key}" for key, allowed in choices.items() if len(allowed) > 1]
            for kind, choices in self._space.kinds.items()
        }
        found = {name: self._importance(params) for name, params in groups.items()}
        return {name: shares for name, shares in found.items() if shares}

    def _importance(self, params: list[str]) -> dict[str, float]:
        state = self._optuna.trial.TrialState
        rows = [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=(state.COMPLETE,))
            if all(param in trial.params for param in params)
        ]
        varied = [param for param in params if len({trial.params[param] for trial in rows}) > 1]
        if len({trial.value for trial in rows}) < 2 or len(rows) < 4 or not varied:
            return {}
        evaluator = self._optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = self._optuna.importance.get_param_importances(self.study, evaluator=evaluator, params=params)
        return {name: float(share) for name, share in shares.items()}

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self._recipe.sampler == "evolution":
            return samplers.NSGAIISampler(population_size=self._recipe.evolution.population, seed=seed)
        return (
            samplers.TPESampler(multivariate=False, seed=seed)
            if self._recipe.sampler == "tpe"
            else samplers.RandomSampler(seed=seed)
        )

    def _pruner(self) -> Any:
        pruners = self._optuna.pruners
        if self._recipe.pruner == "halving":
            middle = -(-self._passes // 2)  # ranks of before say little of the last ones: docs/decisions.md
            return pruners.SuccessiveHalvingPruner(min_resource=max(middle, 1), reduction_factor=REDUCTION)
        if self._recipe.pruner == "hyperband":
            return pruners.HyperbandPruner(1, max(self._passes, 1), REDUCTION)
        return pruners.NopPruner()


@dataclass(frozen=True)
class Trial:
    """One that runs.

    Attributes:
        reported: passes whose AP the study has already, of a trial that was interrupted.
    """

    trial: Any
    candidate: Candidate
    passes: int
    reported: frozenset[int] = frozenset()

    @property
    def number(self) -> int:
        """From 0."""
        return int(self.trial.number)

    def lags(self, done: int, value: float) -> bool:
        """Note the AP after a pass; whether the pruner ends the trial. The control runs to its end, and so do those
        that have got there."""
        if done not in self.reported:
            self.trial.report(value, done)
        return bool(self.candidate) and done < self.passes and bool(self.trial.should_prune())

    def as_of(self, outcome: Outcome, why: str) -> Outcome:
        """An outcome that was seen before, noted here."""
        for place, value in enumerate(outcome.values, start=1):
            self.lags(place, value)
        return Outcome(outcome.status, outcome.values, why, 0)


def _mend(journal: Path) -> None:
    """Undo what a search left that was killed while it wrote: half a line, which the next one would be glued to, and
    the journal's lock. Whoever opens a study has its folder alone."""
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink()
    content = journal.read_bytes() if journal.is_file() else b""
    if content and not content.endswith(b"\n"):
        with journal.open("rb+") as stream:
            stream.truncate(content.rfind(b"\n") + 1)


def suggested(trial: Any, space: Space) -> Candidate:
    """What the sampler, or whoever enqueued the trial, chooses."""
    params: dict[str, str | float] = {}
    for kind, choices in space.kinds.items():
        params[kind] = trial.suggest_categorical(kind, (OFF, ON))
        if params[kind] == ON:
            for key, allowed in choices.items():
                params[f"{kind}.{key}"] = trial.suggest_categorical(f"{kind}.{key}", allowed)
    return candidate_of(params)


def twin(candidate: Candidate, tried: Iterable[Tried]) -> Tried | None:
    """The trial of the same candidate, whose outcome would be the same."""
    return next((one for one in tried if one.candidate == candidate), None)


def _tried(trial: Any) -> Tried:
    notes: Mapping[str, Any] = trial.user_attrs
    params: Params = trial.params
    outcome = Outcome(notes["status"], list(notes["values"]), notes["why"], notes["steps"])
    return Tried(trial.number, candidate_of(params), outcome, notes.get("stage", ""))
