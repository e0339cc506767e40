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

# The agent's commands whose answer is a time; others only make a run slower.
TIMED = frozenset({"profile", "compare", "throughput"})


@contextlib.contextmanager
def own_turn(where: str, wait_seconds: float) -> Iterator[None]:
    """Hold this machine, as far as this user's runs go. Other files than temporary ones are nobody's to write.

    Raises:
        DeviceFault: another run measures here.
    """
    with held(lock(), label(), wait_seconds) as holder:
        if holder is not None:
            raise DeviceFault("busy", f"{where}: busy: in use by {holder}; wait for it to end")
        yield


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
