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

_SIGNALLED = 128
_PR_SET_PDEATHSIG = 1


def supervise(arguments: Namespace) -> int:
    """Run the agent with the given command line, its events on this standard output; returns its exit code.

    A device that is taken is an `error` event of kind `busy`.
    """
    with held(Path(arguments.lock), arguments.label, arguments.wait_seconds) as holder:
        if holder is not None:
            event = {"event": "error", "kind": "busy", "message": f"in use by {holder}; wait for it to end"}
            print(json.dumps(event), flush=True)
            return 1
        return _watched([*_agent(), *json.loads(arguments.line)], arguments.silence_seconds, arguments.beat_seconds)


def _agent() -> List[str]:
    """How this very agent is started once more."""
    archive = Path(__file__).parent.parent
    return [sys.executable, str(archive)] if archive.is_file() else [sys.executable, "-m", str(__package__)]


def _watched(command: List[str], silence_s: float, beat_s: float) -> int:
    with _woken_by_children() as woken:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_dies_with_parent(),  # noqa: PLW1509  # there are no threads
        )
        try:
            _wait(child, woken, silence_s, beat_s)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait()
    if code < 0:
        with contextlib.suppress(OSError):
            os.write(2, f"\nended by {signal.Signals(-code).name}\n".encode())
        return _SIGNALLED - code
    return code


def _wait(child: subprocess.Popen[Any], woken: int, silence_s: float, beat_s: float) -> None:
    """Return when the child has ended, or nobody waits for it any more; wakes only to beat: it is being timed."""
    heard = beaten = time.monotonic()
    while child.poll() is None:
        ready, _, _ = select.select([0, woken], [], [], beat_s)
        now = time.monotonic()
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready:
            if not os.read(0, 4096):
                return
            heard = now
        elif now - heard >= silence_s:
            return
        if now - beaten >= beat_s:
            beaten = now
            try:
                os.write(2, b"\n")
            except OSError:
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
