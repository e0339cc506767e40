"""How much longer: estimates of the time that is left, from what this process has seen."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Protocol

_STEPS = 200  # the last ones count: a load that stays is noticed within half of them, a shorter one never
_PAUSES = 5


class Estimate(Protocol):
    """What is told of every step, and asked for the time that is left."""

    def tell(self, now: float, steps: int) -> None:
        """So many more steps are done; `now` in s."""

    def left_s(self, steps_left: int) -> float | None:
        """Seconds for the steps that are left; None while nothing is known."""


class Mean:
    """By the mean over all steps: for loops whose steps differ."""

    def __init__(self, now: float) -> None:
        self._started, self._now, self._steps = now, now, 0

    def tell(self, now: float, steps: int) -> None:
        """So many more steps are done; `now` in s."""
        self._now, self._steps = now, self._steps + steps

    def left_s(self, steps_left: int) -> float | None:
        """Seconds for the steps that are left; None while nothing is known."""
        return (self._now - self._started) / self._steps * steps_left if self._steps else None


class Rounds:
    """By the medians over the last steps and the last pauses between rounds: for a training with its epochs.

    A median does not follow what disturbs the machine for a while, and the pauses (validation, saving) are counted as
    often as they are still to come.

    Args:
        round_steps: steps of one round; a pause follows each, the last one apart.
        done: steps that were done before this process: they say nothing of its pace.
    """

    def __init__(self, now: float, round_steps: int, done: int = 0) -> None:
        self._last, self._round_steps, self._done = now, round_steps, done
        self._after_pause = False  # what passes before the first step is start-up
        self._seen = 0
        self._steps: deque[float] = deque(maxlen=_STEPS)
        self._pauses: deque[float] = deque(maxlen=_PAUSES)

    def tell(self, now: float, steps: int) -> None:
        """So many more steps are done; `now` in s."""
        if steps <= 0:
            return
        passed, self._last = now - self._last, now
        if self._after_pause:
            self._pauses.append(passed)
        else:
            self._steps.append(passed / steps)
        self._done += steps
        self._after_pause = self._done % self._round_steps == 0

    def left_s(self, steps_left: int) -> float | None:
        """Seconds for the steps that are left; None while nothing is known."""
        if not self._steps:
            return None
        step = statistics.median(self._steps)
        pauses_left = (steps_left - 1) // self._round_steps + (1 if self._after_pause else 0)
        longer = max(statistics.median(self._pauses) - step, 0.0) if self._pauses else 0.0
        return steps_left * step + max(pauses_left, 0) * longer


def in_words(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min: as exactly as an estimate is."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
