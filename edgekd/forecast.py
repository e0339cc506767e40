"""How much longer a whole run takes: what its stages were expected to take, put right by what they do take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SETTLING_S = 30.0  # in which most of a change of opinion is told: a figure that jumps is believed by nobody
_SETTLING_SHARE = 0.02  # of what is left, where that is longer
_BELIEF_S = 10.0  # so much is an expectation worth against what was seen since


@dataclass(frozen=True)
class Part:
    """A stage to come.

    Attributes:
        stage: its name in the manifest.
        kind: such as `train` or `export`; stages of one kind are misjudged by the same factor.
        seconds: that it is expected to take.
        known_by: `measured`, `protocol`, `earlier run` or `guess`.
    """

    stage: str
    kind: str
    seconds: float
    known_by: str = "guess"


class Forecast:
    """What is left of a run. It is told which stage works, and asked while loops go on.

    Args:
        parts: the stages to come, in order.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        self._to_come = {part.stage: part for part in parts}
        self._seen: dict[str, tuple[float, float]] = {}  # kind -> seconds expected, seconds taken
        self._stage, self._began = "", 0.0
        self._left_out = 0.0  # share of the stage that an earlier process did
        self._shown: tuple[float, float] | None = None  # when, and what was told

    def told(self, stage: str, state: str, now: float) -> None:
        """A stage `begins`, `ends`, or was done before and is `kept`."""
        if state == "begins":
            self._stage, self._began, self._left_out = stage, now, 0.0
            return
        part = self._to_come.pop(stage, None)
        if state == "ends" and part is not None and stage == self._stage:
            expected, taken = self._seen.get(part.kind, (0.0, 0.0))
            this = part.seconds * (1 - self._left_out)
            self._seen[part.kind] = (expected + this, taken + now - self._began)
        self._stage, self._left_out = "", 0.0

    def goes_on(self, share: float) -> None:
        """So much of the stage that works was done by an earlier process."""
        self._left_out = share

    def left_s(self, now: float, loop_left_s: float | None, *, is_training: bool = False) -> float:
        """Seconds that the run will still take, as they are told: never far from what was told before.

        Args:
            loop_left_s: of the loop that goes on; None where it knows nothing yet.
            is_training: the loop is nearly all that its stage does.
        """
        left = self._opinion(now, loop_left_s, is_training)
        if self._shown is not None:
            then, told = self._shown
            settling = max(_SETTLING_S, _SETTLING_SHARE * left)
            expected = max(told - (now - then), 0.0)
            left = expected + (left - expected) * -math.expm1(-(now - then) / settling)
        left = max(left, loop_left_s or 0.0)
        self._shown = (now, left)
        return left

    def _opinion(self, now: float, loop_left_s: float | None, is_training: bool) -> float:
        working = self._to_come.get(self._stage) if self._stage else next(iter(self._to_come.values()), None)
        factors = self._factors(now, working, loop_left_s, is_training)
        later = sum(part.seconds * factors.get(part.kind, 1.0) for part in self._to_come.values() if part != working)
        if working is None:
            return later + (loop_left_s or 0.0)
        whole = working.seconds * (1 - self._left_out) * factors.get(working.kind, 1.0)
        rest = whole - (now - self._began) if self._stage else whole
        if loop_left_s is None:
            return later + max(rest, 0.0)
        return later + (loop_left_s if is_training else max(rest, loop_left_s))

    def _factors(
        self, now: float, working: Part | None, loop_left_s: float | None, is_training: bool
    ) -> dict[str, float]:
        """By kind, how many times as long as expected stages take: of the one that trains now, as far as it is."""
        seen = dict(self._seen)
        if working is not None and self._stage and is_training and loop_left_s is not None:
            taken = now - self._began
            share = taken / (taken + loop_left_s) if taken else 0.0
            expected, before = seen.get(working.kind, (0.0, 0.0))
            this = working.seconds * (1 - self._left_out) * share
            seen[working.kind] = (expected + this, before + taken)
        return {kind: (took + _BELIEF_S) / (expected + _BELIEF_S) for kind, (expected, took) in seen.items()}
