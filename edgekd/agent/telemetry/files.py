# SPDX-License-Identifier: Apache-2.0
"""Small files of procfs and sysfs: read once, or again and again at little cost. What cannot be read is None."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

_MOST_BYTES = 64


def text(path: Path) -> Optional[str]:
    """Content without line ends and zero bytes; None where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \n") or None
    except OSError:
        return None


def lines(path: Path) -> List[str]:
    """Lines of a file; none where it cannot be read."""
    return (text(path) or "").splitlines()


def integer(path: Path, base: int = 10) -> Optional[int]:
    """A file that holds one number."""
    try:
        return int(text(path) or "", base)
    except ValueError:
        return None


class NumberFile:
    """A file of sysfs that holds one number and is read many times: opened once, read without touching the path again.

    Reading releases the interpreter's lock, so that a thread that samples holds up nobody.
    """

    def __init__(self, path: Path, scale: float = 1.0, base: int = 10) -> None:
        self._scale = scale
        self._base = base
        try:
            self._descriptor: Optional[int] = os.open(str(path), os.O_RDONLY)
        except OSError:
            self._descriptor = None

    def read(self) -> Optional[float]:
        """The number now, in the scaled unit; None if the driver does not give it."""
        if self._descriptor is None:
            return None
        try:
            value = int(os.pread(self._descriptor, _MOST_BYTES, 0), self._base)
        except (OSError, ValueError):
            return None
        return value if self._scale == 1.0 else round(value * self._scale, 6)

    def close(self) -> None:
        """Close the file; it reads as None from now on."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
