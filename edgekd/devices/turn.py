"""Whose turn it is on the machine that edgekd runs on: two that measure at once measure each other."""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgekd.agent.lock import held
from edgekd.devices.faults import DeviceFault
from edgekd.progress import say

# The agent's commands whose answer is a time; others only make a run slower.
TIMED = frozenset({"profile", "compare", "throughput"})


@contextlib.contextmanager
def own_turn(where: str, soon_seconds: float, turn_seconds: float = 0.0) -> Iterator[None]:
    """Hold this machine, as far as this user's runs go. Other files than temporary ones are nobody's to write.

    Args:
        where: start of every message.
        soon_seconds: another run may be about to end: nothing is said of so short a wait.
        turn_seconds: to wait after that, with a message.

    Raises:
        DeviceFault: another run measures here.
    """
    with contextlib.ExitStack() as stack:
        holder = stack.enter_context(held(lock(), label(), soon_seconds))
        if holder is not None and turn_seconds > 0:
            say_waiting(f"{where}: in use by {holder}", turn_seconds)
            holder = stack.enter_context(held(lock(), label(), turn_seconds))
        if holder is not None:
            raise DeviceFault("busy", f"{where}: busy: in use by {holder}; {remedy(turn_seconds)}")
        yield


def say_waiting(why: str, turn_seconds: float) -> None:
    """Before a long wait."""
    say(f"{why}; waiting up to {_time(turn_seconds)} for its end")


def remedy(turn_seconds: float) -> str:
    """What to do about a device that is in use, after so long a wait."""
    return f"waited {_time(turn_seconds)}; wait longer with --wait" if turn_seconds > 0 else "wait for it to end"


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def lock() -> Path:
    """The file that who measures here holds."""
    return Path(tempfile.gettempdir()) / f"edgekd-{os.getuid()}.lock"


def label() -> str:
    """Who measures, for those who find the device busy."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # no such user in the password file
        user = str(os.getuid())
    return f"{user}@{platform.node()} (process {os.getpid()})"
