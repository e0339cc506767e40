"""One hostile input, tried: the exit code that was promised, lines that are plain, and an end in time."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from typing import Any

from tests.stages.tiny import Ended, edgekd

CPU_SECONDS = 10.0  # of this process: a machine that is busy does not count; hangs seen took 14 and more, or for ever
WALL_SECONDS = 120.0
MOST_LINES, LONGEST_LINE = 52, 4100


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End a trial that takes too much processor time, or waits for something that never comes."""

    def stop(number: int, _frame: object) -> None:
        raise TimeoutError(f"not refused in time ({signal.Signals(number).name})")

    before = {one: signal.signal(one, stop) for one in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def refused(code: int, text: str, *arguments: Any) -> Ended:
    """Run a command that has to end with `code` and a line that holds `text`; every line is plain."""
    with limited():
        ended = edgekd(*arguments)
    assert ended.code == code, ended.err[-1500:]
    assert "edgekd: error: " in ended.err
    told = ended.err.splitlines()
    assert len(told) <= MOST_LINES
    for line in told:
        require_plain(line)
    assert text in ended.err, ended.err[:1500]
    return ended


def require_plain(line: str) -> None:
    """As a terminal and the runners of CI systems read it."""
    assert line.isprintable(), ascii(line[:200])
    assert len(line) <= LONGEST_LINE
    assert not line.lstrip().startswith("::"), line[:200]
    assert not re.search(r"##\w*\[", line), line[:200]
