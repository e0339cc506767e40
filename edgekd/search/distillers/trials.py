"""One trial: what is seen of it while it trains, and when it ends before its time."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from edgekd.errors import DivergedError, EnvironmentFault
from edgekd.search.distillers.candidates import CONTROL, Candidate
from edgekd.search.distillers.proxy import Proxy

FIRST_STEPS = 5  # after which the size of the loss is judged
Status = Literal["complete", "pruned", "failed"]


@dataclass
class Outcome:
    """How a trial ended.

    Attributes:
        values: AP after each pass.
        why: it ended early, in words.
        steps: that were trained.
    """

    status: Status = "complete"
    values: list[float] = field(default_factory=list)
    why: str = ""
    steps: int = 0

    @property
    def score(self) -> float | None:
        """Mean AP of the last third of its passes, which varies less than one; None of a trial that ended early."""
        return fmean(self.values[-max(1, len(self.values) // 3) :]) if self.status == "complete" else None


class Ended(Exception):
    """Ends a trial from inside."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Look:
    """Follows a trial: DetKDS' filter in its first steps, and whoever prunes after each pass."""

    def __init__(self, most_loss: float, lags: Callable[[int, float], bool]) -> None:
        """Follow a trial.

        Args:
            most_loss: distillation loss over the student's own, above which it ends.
            lags: (pass, AP) -> whether it has fallen too far behind to be gone on with.
        """
        self.outcome = Outcome()
        self._most_loss, self._lags = most_loss, lags

    def batch(self, items: Mapping[str, float]) -> None:
        """See `Watcher`.

        Raises:
            Ended: the distillation drowns the student's own loss.
        """
        self.outcome.steps += 1
        if self.outcome.steps != FIRST_STEPS:
            return
        distilled = sum(value for name, value in items.items() if name.startswith("kd/"))
        own = sum(value for name, value in items.items() if not name.startswith("kd/"))
        if not distilled <= self._most_loss * own:
            raise Ended("failed", f"the distillation loss is {distilled / max(own, 1e-9):.3g} times the student's own")

    def epoch(self, row: Mapping[str, Any]) -> None:
        """See `Watcher`.

        Raises:
            Ended: it lags behind.
        """
        value = float(row["ap"])
        self.outcome.values.append(value)
        if self._lags(len(self.outcome.values), value):
            raise Ended("pruned", f"lags behind after pass {len(self.outcome.values)}")


@dataclass(frozen=True)
class Runner:
    """Runs candidates on a proxy."""

    proxy: Proxy
    folder: Path
    most_loss: float

    def run(
        self, candidate: Candidate, seed: int, lags: Callable[[int, float], bool] = lambda _pass, _ap: False
    ) -> Outcome:
        """Train a candidate until it is done, diverges, runs out of memory, or falls behind; its files go."""
        look = Look(self.most_loss if candidate != CONTROL else float("inf"), lags)
        try:
            self.proxy.train(candidate, seed, self.folder, look)
        except Ended as ended:
            look.outcome.status, look.outcome.why = ended.status, ended.why
        except (DivergedError, EnvironmentFault) as error:
            if isinstance(error, EnvironmentFault) and "out of memory" not in str(error):
                raise
            look.outcome.status, look.outcome.why = "failed", str(error)  # a smaller candidate may fit
        finally:
            self.clear()
        return look.outcome

    def clear(self) -> None:
        """Remove what the last trial left."""
        shutil.rmtree(self.folder, ignore_errors=True)
