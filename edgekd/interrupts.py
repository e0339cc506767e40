"""Ctrl-C and SIGTERM: from the first moment of the program to its last, each ends it with one line and exit code 130.

Trainings heed both in their own way (`edgekd.training.signals`): they save their state first.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

EXIT_CODE = 130
AGAIN_S = 4.0  # libraries that are being imported may swallow an exception, so it is raised again ...
AT_LAST_S = 9.0  # ... and then the process ends at any rate: those who ask by SIGTERM kill after ten seconds
_SHOW_CURSOR = b"\x1b[?25h"


class Stop(KeyboardInterrupt):
    """What a signal raises. Once a plain `KeyboardInterrupt` has passed through `exec` of a text, as in many an import,
    Python ends by SIGINT, whatever the exit code."""


class Interrupts:
    """While entered, SIGINT and SIGTERM raise `Stop`, unless whoever started the process has them ignored.

    Native code that it interrupts may turn the exception into an error of its own: `came` tells them apart.

    Attributes:
        came: name of the first signal; None if there was none.
    """

    def __init__(self) -> None:
        self.came: str | None = None
        self._previous: dict[int, object] = {}
        self._process = os.getpid()
        self._settled = threading.Event()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) is usual:
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        self.settle()
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def line(self) -> str:
        """What the user is told."""
        by = f" by {self.came}" if self.came not in (None, "SIGINT") else ""
        return f"interrupted{by}; the same command goes on from the last finished stage"

    def settle(self) -> None:
        """The program ends, or goes on: nothing more is raised."""
        self._settled.set()

    def ignore(self) -> None:
        """From now on neither signal does anything: all is said, and the exit code stands."""
        self.settle()
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)
        self._previous = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a fork has no part in this
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if self.came is None:
            self.came = signal.Signals(number).name
            threading.Thread(target=self._insist, daemon=True, name="edgekd-interrupt").start()
        raise Stop

    def _insist(self) -> None:
        deadline = time.monotonic() + AT_LAST_S
        while not self._settled.wait(AGAIN_S):
            if time.monotonic() > deadline:
                self._end()
            with suppress(ProcessLookupError):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.Signals[str(self.came)])

    def _end(self) -> None:
        with suppress(OSError):
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)  # a progress bar hides it
            os.write(2, f"edgekd: error: {self.line}\n".encode())
        os._exit(EXIT_CODE)


def leave(interrupts: Interrupts) -> None:
    """End here with the line and the code, if a signal came."""
    if interrupts.came is not None:
        interrupts.ignore()
        print(f"edgekd: error: {interrupts.line}", file=sys.stderr, flush=True)
        sys.exit(EXIT_CODE)
