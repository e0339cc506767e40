"""What differs between two records of what decided something, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 40  # characters of a value
_BEFORE = 10  # of what is equal in front of a difference


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
    """The first of them, each with both values; of long ones with their first parts that differ."""
    what = ", ".join(_told(key, *differing[key]) for key in list(differing)[:most])
    return f"{what} and {len(differing) - most} more" if len(differing) > most else what


def first_difference(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Place of the first element that only one has, or that is another in the other."""
    both = zip(one, other, strict=False)
    return next((place for place, (its, theirs) in enumerate(both) if its != theirs), min(len(one), len(other)))


def _told(key: str, then: Any, now: Any) -> str:
    texts = ["none" if value is None else str(value) for value in (then, now)]
    if max(map(len, texts)) > _LONGEST and isinstance(then, list) and isinstance(now, list):
        place = first_difference(then, now)
        return _told(f"{key}[{place}]", *(side[place] if place < len(side) else None for side in (then, now)))
    if max(map(len, texts)) > _LONGEST and isinstance(then, Mapping) and isinstance(now, Mapping):
        part, values = next(iter(differences(then, now).items()))
        return _told(f"{key}.{part}", *values)
    first = max(first_difference(*texts) - _BEFORE, 0) if max(map(len, texts)) > _LONGEST else 0
    return f"{key} ({_cut(texts[0], first)}, now {_cut(texts[1], first)})"


def _cut(text: str, first: int) -> str:
    """What fits, from a place on, or from the beginning where that is shown, too."""
    first = 0 if first + _BEFORE < _LONGEST - 3 else first
    text = f"...{text[first:]}" if first else text
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
