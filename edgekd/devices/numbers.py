"""Whole numbers in what a device says: a device may say anything."""

from __future__ import annotations

import re

_WHOLE = re.compile(r"-?[0-9]{1,18}")  # what 64 bits hold; `isdigit` takes signs that `int` does not


def whole(text: str) -> int | None:
    """The number that `text` is; None if it is none, or one that no device has."""
    return int(text) if _WHOLE.fullmatch(text := text.strip()) else None
