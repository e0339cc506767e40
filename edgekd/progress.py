"""Progress on standard error: a bar with the remaining time on a terminal, sparse plain lines elsewhere.

Of processes that train together, one speaks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekd import ranks
from edgekd.pace import Estimate, Mean, Rounds, in_words
from edgekd.plain import line as plain_line

_PLAIN_INTERVAL_S = 10.0


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
    shown = (_bar if sys.stderr.isatty() and not within else _plain) if ranks.is_main() else _silent
    now = time.monotonic()
    with shown(title, total, done, Rounds(now, round_steps, done) if round_steps else Mean(now)) as advance:
        yield advance


def say(line: str) -> None:
    """One line on standard error (results go to standard output), made neutral."""
    if ranks.is_main():
        print(plain_line(line), file=sys.stderr, flush=True)


@contextmanager
def _silent(_title: str, _total: int, _done: int, _estimate: Estimate) -> Iterator[Callable[..., None]]:
    yield lambda steps=1, note="": None


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
