"""What differs between two records of what decided something, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Later:
    """In the place of a value that is not known yet: it differs from nothing."""


LATER = Later()


def flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key."""
    if not isinstance(content, Mapping):
        return {prefix: content}
    parts = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in content.items()]
    return {key: value for part in parts for key, value in part.items()}


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> value then and now, of those that differ; `LATER` may stand for any value of now."""
    old, new = flat(then), flat(now)
    both = {key: (old.get(key), new.get(key)) for key in sorted(old | new)}
    return {key: (before, after) for key, (before, after) in both.items() if after is not LATER and before != after}


def in_words(differing: Mapping[str, tuple[Any, Any]], most: int = 4) -> str:
    """The first of them, each with both values."""
    shown = list(differing)[:most]
    what = ", ".join(f"{key} ({_short(differing[key][0])}, now {_short(differing[key][1])})" for key in shown)
    return f"{what} and {len(differing) - most} more" if len(differing) > most else what


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
