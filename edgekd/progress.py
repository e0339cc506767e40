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
        note: beside the progress, e.g. the loss.
        values: of an epoch: its row of `epochs.csv`, AP in 0..1.
    """

    kind: Literal["stage", "progress", "epoch", "line"]
    title: str
    state: Literal["", "begins", "ends", "kept"] = ""
    done: int = 0
    total: int = 0
    left_s: float | None = None
    note: str = ""
    values: dict[str, float] = field(default_factory=dict)


Listener = Callable[[Event], None]


@dataclass
class _Audience:
    """Who listens, and whether standard error is left alone meanwhile."""

    listeners: list[Listener] = field(default_factory=list)
    quiet: int = 0


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


def tell(event: Event) -> None:
    """Hand an event to whoever listens."""
    if ranks.is_main():
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
    estimate: Estimate = Rounds(now, round_steps, done) if round_steps else Mean(now)
    with shown(title, total, done, estimate) as advance:
        yield _told(advance, title, total, done, estimate) if _audience.listeners else advance


def say(line: str) -> None:
    """One line on standard error (results go to standard output), made neutral."""
    if ranks.is_main() and not _audience.quiet:
        print(plain_line(line), file=sys.stderr, flush=True)
    tell(Event("line", plain_line(line)))


def _told(advance: Callable[..., None], title: str, total: int, done: int, estimate: Estimate) -> Callable[..., None]:
    """`advance`, which is told to the listeners as well."""

    def both(steps: int = 1, note: str = "") -> None:
        nonlocal done
        done += steps
        advance(steps, note)
        left_s = estimate.left_s(total - done) if done < total else 0.0
        tell(Event("progress", title, done=done, total=total, left_s=left_s, note=note))

    return both


@contextmanager
def _silent(_title: str, _total: int, _done: int, estimate: Estimate) -> Iterator[Callable[..., None]]:
    yield lambda steps=1, note="": estimate.tell(time.monotonic(), steps)


@contextmanager
def _bar(title: str, total: int, done: int, estimate: Estimate) -> Iterator[Callable[..., None]]:
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
            estimate.tell(time.monotonic(), steps)
            bars.update(task, advance=steps, note=plain_line(note), left=_left(estimate, total - done))

        yield advance


@contextmanager
def _plain(title: str, total: int, done: int, estimate: Estimate) -> Iterator[Callable[..., None]]:
    started = last = time.monotonic()

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        estimate.tell(now, steps)
        if now - last >= _PLAIN_INTERVAL_S and done < total:
            last = now
            words = " ".join(part for part in (_left(estimate, total - done), note) if part)
            say(f"{title}: {done}/{total}{', ' if words else ''}{words}")

    yield advance
    seconds = time.monotonic() - started
    if seconds >= 2:
        say(f"{title}: {done}/{total} in {seconds:.0f} s")


def _left(estimate: Estimate, steps: int) -> str:
    """`about 12 min left`; empty where nothing is known, or nothing is left."""
    seconds = estimate.left_s(steps) if steps > 0 else None
    return "" if seconds is None else f"about {in_words(seconds)} left"
