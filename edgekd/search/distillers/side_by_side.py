"""Trials beside one another, on whatever runs them; the study, and who is ended early, stay here."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers.candidates import in_words
from edgekd.search.distillers.strategy import Strategy
from edgekd.search.distillers.study import Study, Trial, Tried
from edgekd.search.distillers.trials import Outcome
from edgekd.search.pools.cluster import Cluster
from edgekd.search.pools.contract import Asked, Done, Event, Job, Lost, Pool, Work, raise_fault
from edgekd.search.pools.processes import Processes
from edgekd.stages.binding import Bound
from edgekd.training.engines.placement import torch_device

TRIES = 3  # of one trial, whose workers died
_WAIT_S = 0.5


def is_asked_for(recipe: SearchRecipe) -> bool:
    """Whether trials run beside one another at all."""
    return recipe.workers > 1 or recipe.ray is not None


def require_room(bound: Bound) -> None:
    """Refuse what cannot run beside one another.

    Raises:
        InputError: each trial would take all cores, or the next depends on the last.
    """
    key = "ray" if bound.recipe.search.ray is not None else "workers"
    problems = []
    if bound.recipe.threads is None:
        problems.append(
            f"search.{key}: needs 'threads', the CPU threads of a trial, else each takes all; set threads: 1"
        )
    if bound.recipe.search.strategy == "divide":
        problems.append(
            f"search.{key}: strategy 'divide' decides each trial by the one before; use 'budgeted', or leave {key} out"
        )
    if problems:
        raise InputError(*(f"{bound.where}: {problem}" for problem in problems))


def pool_of(bound: Bound, work: Work, folder: Path) -> Pool:
    """What the recipe asks for, not yet entered."""
    search = bound.recipe.search
    if search.ray is None:
        return Processes(work, search.workers, folder / "trials" / "workers.log", _gpus(bound))
    gpus = int(torch_device(bound.recipe.train.get("device")).type == "cuda")
    return Cluster(work, search.ray, bound.recipe.threads or 1, gpus)


def _gpus(bound: Bound) -> list[str]:
    """That processes are spread over, as CUDA_VISIBLE_DEVICES names them; none where the recipe names a device."""
    if bound.recipe.train.get("device") is not None:
        return []
    import torch

    shown = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return (shown or [str(number) for number in range(torch.cuda.device_count())])[: torch.cuda.device_count()]


def train(pool: Pool, jobs: Sequence[Job], told: Callable[[int, Outcome], None]) -> None:
    """Trainings that run to their end, as many at once as there is room for.

    Args:
        pool: is open.
        told: called with place and outcome as each ends.
    """
    waiting, running, tries, ended = deque(range(len(jobs))), 0, Counter[int](), 0
    while ended < len(jobs):
        while waiting and running < pool.room():
            number, running = waiting.popleft(), running + 1
            pool.start(number, {**jobs[number], "number": number})
        for event in pool.events(_WAIT_S):
            if isinstance(event, Asked):
                pool.answer(event.number, False)
                continue
            running -= 1
            outcome = _ended(event, tries)
            if outcome is None:
                waiting.append(event.number)
                continue
            ended += 1
            told(event.number, outcome)


def _ended(event: Done | Lost, tries: Counter[int]) -> Outcome | None:
    """How a training ended; None if it is to be begun again, for its worker died, and not for the last time."""
    if isinstance(event, Done):
        raise_fault(event.ended)
        return Outcome(**event.ended)
    tries[event.number] += 1
    return Outcome("failed", why=f"{event.why}, {TRIES} times") if tries[event.number] >= TRIES else None


@dataclass
class SideBySide:
    """Keeps as many trials running as there is room for.

    Attributes:
        pool: is open.
        over: finished trials -> why the search is over; empty while it is not.
        told: after each trial that ended, all that did.
    """

    study: Study
    strategy: Strategy
    pool: Pool
    seed: int
    most: int
    over: Callable[[list[Tried]], str]
    told: Callable[[list[Tried], str], None]
    _running: dict[int, Trial] = field(default_factory=dict)
    _tries: Counter[int] = field(default_factory=Counter)

    def run(self) -> str:
        """Until the end, of the trials that still run, too; why it is the end."""
        why = ""
        while True:
            tried = self.study.finished()
            why = why or self.over(tried)
            while not why and self._may_begin(tried):
                if not self._begin(tried):
                    why = "nothing is left to try"
                tried = self.study.finished()
            if not self._running and why:
                return why
            for event in self.pool.events(_WAIT_S):
                self._heed(event)

    def _may_begin(self, tried: list[Tried]) -> bool:
        running = len(self._running)
        return running < self.pool.room() and len(tried) + running < self.most

    def _begin(self, tried: list[Tried]) -> bool:
        proposal = self.strategy.next(tried, len(self._running))
        if proposal is None:
            return False
        trial = self.study.begin(proposal.candidate, proposal.stage, frozenset(self._running))
        outcome = self.study.seen(trial, tried)
        if outcome is not None:
            self._end(trial, outcome)
            return True
        self._running[trial.number] = trial
        self._start(trial)
        return True

    def _start(self, trial: Trial) -> None:
        self.pool.start(trial.number, {"number": trial.number, "candidate": trial.candidate, "seed": self.seed})

    def _heed(self, event: Event) -> None:
        trial = self._running[event.number]
        if isinstance(event, Asked):
            self.pool.answer(event.number, trial.lags(event.done, event.value))
        elif outcome := _ended(event, self._tries):
            del self._running[event.number]
            self._end(trial, outcome)
        elif isinstance(event, Lost):
            self.told(self.study.finished(), f"trial {trial.number}: {event.why}; begun again")
            self._running[trial.number] = replace(trial, reported=self.study.reported(trial))
            self._start(trial)

    def _end(self, trial: Trial, outcome: Outcome) -> None:
        self.study.end(trial, outcome)
        how: Any = f"AP {outcome.score:.3f}" if outcome.score is not None else outcome.why
        self.told(self.study.finished(), f"trial {trial.number}: {how}: {in_words(trial.candidate)}")
