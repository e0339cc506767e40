"""What a search asks of whatever runs trials beside one another. The study stays with the search: it alone decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from edgekd import errors
from edgekd.errors import EdgekdError

Lags: TypeAlias = Callable[[int, float], bool]  # (pass, AP) -> whether the trial is to end
Job: TypeAlias = Mapping[str, Any]  # what a trial tries, and how it ended: JSON
POLL_S = 0.1


@dataclass(frozen=True)
class Work:
    """What every worker runs: a function of (`given`, job, lags) that returns how the trial ended.

    Attributes:
        module, function: where it is; imported by each worker.
        given: to every trial, JSON.
    """

    module: str
    function: str
    given: Job

    def __call__(self, job: Job, lags: Lags) -> Job:
        """How the trial ended; under `fault` and `problems` an error of edgekd's, which ends the search."""
        try:
            ended: Job = getattr(import_module(self.module), self.function)(self.given, job, lags)
        except EdgekdError as error:
            return {"fault": type(error).__name__, "problems": list(error.problems)}
        return ended


@dataclass(frozen=True)
class Asked:
    """A trial has come to the end of a pass, and waits for an answer."""

    number: int
    done: int
    value: float


@dataclass(frozen=True)
class Done:
    """A trial has ended."""

    number: int
    ended: Job


@dataclass(frozen=True)
class Lost:
    """The worker of a trial is gone; the trial did nothing wrong."""

    number: int
    why: str


Event: TypeAlias = Asked | Done | Lost


class Pool(Protocol):
    """Runs trials; a context manager, whose end leaves no worker behind."""

    def room(self) -> int:
        """How many trials may run at once just now; workers may come and go."""
        ...

    def start(self, number: int, job: Job) -> None:
        """Begin a trial."""
        ...

    def events(self, wait_s: float) -> list[Event]:
        """What happened; empty if nothing did in that time.

        Raises:
            EnvironmentFault: workers cannot be reached any more; what was done is in the study.
        """
        ...

    def answer(self, number: int, lags: bool) -> None:
        """To `Asked`."""
        ...

    def __enter__(self) -> Pool: ...

    def __exit__(self, *_: object) -> None: ...


def raise_fault(ended: Job) -> None:
    """Raise what went wrong in a worker, as it was raised there."""
    if "fault" in ended:
        raise getattr(errors, str(ended["fault"]), errors.EnvironmentFault)(*ended["problems"])
