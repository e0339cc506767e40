"""Standard output and standard error as they are found: closed, full, without a reader, or of a narrow encoding."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from edgekd.errors import EnvironmentFault


def prepare() -> None:
    """Make the streams fit to be written to: what their encoding lacks is escaped, no file takes a closed one's place.

    Raises:
        EnvironmentFault: standard output is closed, so no result could be told.
    """
    has_output = sys.stdout is not None
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is this one
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    if not has_output:
        raise EnvironmentFault("standard output: is closed; direct it to a file or to /dev/null")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def abandon_what_is_stuck() -> None:
    """Let what was printed and cannot be written go nowhere: Python would try once more as it ends, and fail."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
