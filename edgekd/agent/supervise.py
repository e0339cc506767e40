# SPDX-License-Identifier: Apache-2.0
"""`supervise`: runs the agent for a host that may vanish. Needs the standard library alone.

The host sends a byte now and then. At the end of its stream, or when nothing came for too long, the agent and whatever
it started are killed: a cable that is pulled leaves nothing running. A byte goes back on standard error as often, so
that the host, too, knows. One at a time holds the device.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

from .lock import held

_SIGNALLED, _ALONE = 128, 1
_PR_SET_PDEATHSIG = 1


def supervise(arguments: Namespace) -> int:
    """Run the agent with the given command line, its events on this standard output; returns its exit code.

    A device that is taken is an `error` event of kind `busy`.
    """
    host = _Host(arguments.silence_seconds, arguments.beat_seconds)
    with held(Path(arguments.lock), arguments.label, arguments.wait_seconds, host.require) as holder:
        if holder is not None:
            event = {"event": "error", "kind": "busy", "message": f"in use by {holder}; wait for it to end"}
            print(json.dumps(event), flush=True)
            return 1
        return _watched([*_agent(), *json.loads(arguments.line)], host)


def _agent() -> List[str]:
    """How this very agent is started once more."""
    archive = Path(__file__).parent.parent
    return [sys.executable, str(archive)] if archive.is_file() else [sys.executable, "-m", str(__package__)]


class _Host:
    """At the other end of standard input and error: it is heard now and then, and hears of this side as often.

    Args:
        silence_s: after which it is taken for gone.
        beat_s: between two signs of life of this side.
    """

    def __init__(self, silence_s: float, beat_s: float) -> None:
        self.beat_s = beat_s
        self._silence_s = silence_s
        self._heard = self._beaten = time.monotonic()

    def is_gone(self, spoke: bool) -> bool:
        """Whether nobody waits any more.

        Args:
            spoke: its end can be read from.
        """
        now = time.monotonic()
        if spoke:
            if not os.read(0, 4096):
                return True
            self._heard = now
        elif now - self._heard >= self._silence_s:
            return True
        if now - self._beaten >= self.beat_s:
            self._beaten = now
            try:
                os.write(2, b"\n")
            except OSError:
                return True
        return False

    def require(self) -> None:
        """End this process if nobody waits any more."""
        if self.is_gone(bool(select.select([0], [], [], 0)[0])):
            sys.exit(_ALONE)


def _watched(command: List[str], host: _Host) -> int:
    with _woken_by_children() as woken:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),  # noqa: PLW1509  # there are no threads
        )
        try:
            _wait(child, woken, host)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    if code < 0:
        with contextlib.suppress(OSError):
            os.write(2, f"\nended by {signal.Signals(-code).name}\n".encode())
        return _SIGNALLED - code
    return code


def _wait(child: subprocess.Popen[Any], woken: int, host: _Host) -> None:
    """Return when the child has ended, or nobody waits for it any more; wakes only to beat: it is being timed."""
    while child.poll() is None:
        ready, _, _ = select.select([0, woken], [], [], host.beat_s)
        if woken in ready:
            os.read(woken, 4096)
        if host.is_gone(0 in ready):
            return


@contextlib.contextmanager
def _woken_by_children() -> Iterator[int]:
    """A descriptor that can be read from once a child has ended; asked to end, this process does so in order."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(_SIGNALLED + number))
    yield read


def _dies_with_parent() -> Optional[Callable[[], Any]]:
    """On Linux the kernel kills the child even if this process is killed before it can."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
