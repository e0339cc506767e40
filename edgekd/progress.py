"""Progress on standard error: a bar with the remaining time on a terminal, sparse plain lines elsewhere.

Of processes that train together, one speaks.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekd import ranks
from edgekd.plain import line as plain_line

_PLAIN_INTERVAL_S = 10.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[..., None]]:
    """Show progress of a loop of `total` steps.

    Yields:
        `advance(steps=1, note="")`: call it after each step; `note` is shown behind the bar.
    """
    shown = (_bar if sys.stderr.isatty() else _plain) if ranks.is_main() else _silent
    with shown(title, total) as advance:
        yield advance


def say(line: str) -> None:
    """One line on standard error (results go to standard output), made neutral."""
    if ranks.is_main():
        print(plain_line(line), file=sys.stderr, flush=True)


@contextmanager
def _silent(_title: str, _total: int) -> Iterator[Callable[..., None]]:
    yield lambda steps=1, note="": None


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(plain_line(title), total=total, note="")
        yield lambda steps=1, note="": bars.update(task, advance=steps, note=plain_line(note))


@contextmanager
def _plain(title: str, total: int) -> Iterator[Callable[..., None]]:
    started = last = time.monotonic()
    done = 0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= _PLAIN_INTERVAL_S and done < total:
            last = now
            left_s = (now - started) / max(done, 1) * (total - done)
            say(f"{title}: {done}/{total}, about {left_s:.0f} s left {note}".rstrip())

    yield advance
    seconds = time.monotonic() - started
    if seconds >= 2:
        say(f"{title}: {done}/{total} in {seconds:.0f} s")
