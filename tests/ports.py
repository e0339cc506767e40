"""Ports of this machine for servers that tests start."""

from __future__ import annotations

import contextlib
import random
import socket

_BELOW_THE_SYSTEMS_OWN = (15_000, 30_000)
_given: set[int] = set()


def free_port() -> int:
    """One that nobody gets by asking for any free one, as dozens of other tests do until its server is up."""
    while True:
        port = random.SystemRandom().randrange(*_BELOW_THE_SYSTEMS_OWN)
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
