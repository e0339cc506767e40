"""Overrides of a recipe as the command line writes them, from what is asked for in other words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.plain import value as shown


def overrides_of(changes: Mapping[str, Any] | None) -> tuple[str, ...]:
    """`{"train.epochs": 3}` as `train.epochs=3`; a value takes the place of all that stood there.

    Raises:
        InputError: a key is no text, or a value none that a recipe can hold.
    """
    found = []
    for key, value in (changes or {}).items():
        if not isinstance(key, str):
            raise InputError(f"overrides: {shown(key)}: a key is text such as 'train.epochs'; write it so")
        found.append(f"{key}={in_a_line(value, f'overrides: {key}')}")
    return tuple(found)


def in_a_line(value: Any, where: str) -> str:
    """A value of a recipe as JSON, which is YAML, too; a `Path` is its text.

    Raises:
        InputError: no recipe can hold it.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where}: got {shown(value)}; a recipe holds text, finite numbers, true, false, null, lists and mappings"
        ) from error


def profile_overrides(
    streams: Sequence[int] = (), batch: int | None = None, sustained_s: float | None = None
) -> tuple[str, ...]:
    """To count images per second of so many streams (each a load), and to measure for so long without a pause."""
    found = []
    if streams or batch:
        loads = [{"streams": count, "batch": batch} for count in streams or [1]]
        found.append(f"profile.throughput={json.dumps(loads)}")
    if sustained_s is not None:
        found += ["profile.protocol=sustained", f"profile.sustained_minutes={sustained_s / 60}"]
    return tuple(found)


def _plain(value: Any) -> Any:
    """Paths, and numbers of numpy."""
    if isinstance(value, Path):
        return str(value)
    if callable(getattr(value, "item", None)):
        return value.item()
    raise TypeError
