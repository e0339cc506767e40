"""Keeps image decoders off the screen: libjpeg, libpng, libtiff and OpenCV write to file descriptor 2 by themselves.

What is wrong with an image is said by edgekd, with its name; the decoders name no file. Python's own standard error
stays open meanwhile, on a descriptor of its own, so progress and warnings are shown.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

_STDERR = 2


class _Screen:
    """The way of descriptor 2 to the screen. Threads decode side by side: the first closes it, the last opens it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._kept: int | None = None
        self._replaced: tuple[TextIO, TextIO] | None = None

    def close(self) -> None:
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            try:
                self._kept = os.dup(_STDERR)
            except OSError:  # it is closed: there is no screen
                return
            before = sys.stderr
            if _writes_to_descriptor(before):
                before.flush()
                descriptor = os.dup(self._kept)
                own = os.fdopen(descriptor, "w", buffering=1, encoding=before.encoding, errors=before.errors)
                self._replaced, sys.stderr = (before, own), own
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, _STDERR)
            os.close(sink)

    def open(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users or self._kept is None:
                return
            os.dup2(self._kept, _STDERR)
            os.close(self._kept)
            self._kept = None
            if self._replaced is not None:
                before, own = self._replaced
                if sys.stderr is own:
                    sys.stderr = before
                own.close()
                self._replaced = None


_SCREEN = _Screen()


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Within, what is written to file descriptor 2 and not through `sys.stderr` is dropped."""
    _SCREEN.close()
    try:
        yield
    finally:
        _SCREEN.open()


class Quietly:
    """Calls a function with the decoders quiet; can be pickled where the function can."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """As the function."""
        with quiet_decoders():
            return self._function(*arguments, **options)


def _writes_to_descriptor(stream: TextIO) -> bool:
    try:
        return stream.fileno() == _STDERR
    except (OSError, ValueError, AttributeError):  # a stream in memory, closed, or none
        return False
