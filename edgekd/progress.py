"""Progress on standard error: a bar with the remaining time on a terminal, sparse plain lines elsewhere.

Of processes that train together, one speaks. Programs that use edgekd as a library may listen (`listening`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from edgekd import ranks
from edgekd.forecast import Forecast
from edgekd.pace import Estimate, Mean, Rounds, in_words
from edgekd.plain import line as plain_line

_PLAIN_INTERVAL_S = 10.0


@dataclass(frozen=True)
class Event:
    """What a run tells while it works.

    Attributes:
        kind: `stage`, `progress` (of a loop), `epoch` (of a training) or `line` (of text).
        title: name of the stage, of the loop or of the training; the line itself.
        state: of a stage: it `begins`, `ends`, or was done before and is `kept`.
        done, total: steps of a loop.
        left_s: seconds that a loop will still take; None where nothing is known yet.
        run_left_s: seconds that the whole run will still take, an estimate; None where nothing is known of it.
        note: beside the progress, e.g. the loss.
        values: of an epoch: its row of `epochs.csv`, AP in 0..1.
    """

    kind: Literal["stage", "progress", "epoch", "line"]
    title: str
    state: Literal["", "begins", "ends", "kept"] = ""
    done: int = 0
    total: int = 0
    left_s: float | None = None
    run_left_s: float | None = None
    note: str = ""
    values: dict[str, float] = field(default_factory=dict)


Listener = Callable[[Event], None]


@dataclass
class _Audience:
    """Who listens, whether standard error is left alone meanwhile, and what is expected of the run."""

    listeners: list[Listener] = field(default_factory=list)
    quiet: int = 0
    forecast: Forecast | None = None


_audience = _Audience()


@contextmanager
def listening(listener: Listener | None, *, quiet: bool = False) -> Iterator[None]:
    """While entered, every event goes to `listener`, too; what it raises ends the run.

    Args:
        quiet: write nothing on standard error.
    """
    before = list(_audience.listeners)
    _audience.listeners = [*before, *([listener] if listener else [])]
    _audience.quiet += quiet
    try:
        yield
    finally:
        _audience.listeners = before
        _audience.quiet -= quiet


@contextmanager
def foreseen(forecast: Forecast | None) -> Iterator[None]:
    """While entered, loops also say what is left of the whole run; None: nothing is known of it."""
    _audience.forecast = forecast
    try:
        yield
    finally:
        _audience.forecast = None


def tell(event: Event) -> None:
    """Hand an event to whoever listens."""
    if ranks.is_main():
        if _audience.forecast is not None and event.kind == "stage":
            _audience.forecast.told(event.title, event.state, time.monotonic())
        for listener in _audience.listeners:
            listener(event)


@contextmanager
def progress(
    title: str, total: int, *, done: int = 0, round_steps: int | None = None, within: bool = False
) -> Iterator[Callable[..., None]]:
    """Show progress of a loop of `total` steps.

    Args:
        done: steps that were done before: they count as done, and say nothing of how long the others take.
        round_steps: of a training, whose steps are alike, with a pause after every round of so many.
        within: another bar is on the screen; lines are written beside it.

    Yields:
        `advance(steps=1, note="")`: call it after each step; `note` is shown behind the bar.
    """
    heard = ranks.is_main() and not _audience.quiet
    shown = (_bar if sys.stderr.isatty() and not within else _plain) if heard else _silent
    now = time.monotonic()
    left = _Left(Rounds(now, round_steps, done) if round_steps else Mean(now), round_steps is not None)
    if _audience.forecast is not None and round_steps and done:
        _audience.forecast.goes_on(done / total)
    with shown(title, total, done, left) as advance:
        yield _told(advance, title, total, done, left) if _audience.listeners else advance


def say(line: str) -> None:
    """One line on standard error (results go to standard output), made neutral."""
    if ranks.is_main() and not _audience.quiet:
        print(plain_line(line), file=sys.stderr, flush=True)
    tell(Event("line", plain_line(line)))


@dataclass
class _Left:
    """What is left, of a loop and of the run that it belongs to."""

    estimate: Estimate
    is_training: bool
    run_s: float | None = None

    def tell(self, steps: int) -> None:
        """So many more steps are done."""
        self.estimate.tell(time.monotonic(), steps)

    def look(self, steps_left: int) -> float | None:
        """Seconds of the loop; `run_s` is then what is left of the run."""
        loop_s = self.estimate.left_s(steps_left) if steps_left > 0 else 0.0
        if _audience.forecast is not None:
            self.run_s = _audience.forecast.left_s(time.monotonic(), loop_s, is_training=self.is_training)
        return loop_s

    def words(self, steps_left: int) -> str:
        """`about 12 min left (whole run 40 min)`; empty where nothing is known, or nothing is left of the loop."""
        if steps_left <= 0 or (seconds := self.look(steps_left)) is None:
            return ""
        run = "" if self.run_s is None else f" (whole run {in_words(self.run_s)})"
        return f"about {in_words(seconds)} left{run}"


def _told(advance: Callable[..., None], title: str, total: int, done: int, left: _Left) -> Callable[..., None]:
    """`advance`, which is told to the listeners as well."""

    def both(steps: int = 1, note: str = "") -> None:
        nonlocal done
        done += steps
        advance(steps, note)
        left_s = left.look(total - done)
        tell(Event("progress", title, done=done, total=total, left_s=left_s, run_left_s=left.run_s, note=note))

    return both


@contextmanager
def _silent(_title: str, _total: int, _done: int, left: _Left) -> Iterator[Callable[..., None]]:
    yield lambda steps=1, note="": left.tell(steps)


@contextmanager
def _bar(title: str, total: int, done: int, left: _Left) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(plain_line(title), total=total, completed=done, note="", left="")

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal done
            done += steps
            left.tell(steps)
            bars.update(task, advance=steps, note=plain_line(note), left=left.words(total - done))

        yield advance


@contextmanager
def _plain(title: str, total: int, done: int, left: _Left) -> Iterator[Callable[..., None]]:
    started = last = time.monotonic()

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        left.tell(steps)
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL_S and done < total:
            last = now
            words = " ".join(part for part in (left.words(total - done), note) if part)
            say(f"{title}: {done}/{total}{', ' if words else ''}{words}")

    yield advance
    seconds = time.monotonic() - started
    if seconds >= 2:
        say(f"{title}: {done}/{total} in {seconds:.0f} s")
