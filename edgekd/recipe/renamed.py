"""Keys that recipes had under another name before: still read, with a note that says what to write now."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.plain import value
from edgekd.run_dir import LOCKED_RECIPE

RENAMED = {"baseline": "control"}


def with_new_keys(content: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """A recipe's content under the names of today, in the order in which it was written, and notes for its author.

    Args:
        path: its file, for messages. A locked recipe is edgekd's own and needs no note: it is written anew.

    Raises:
        InputError: a key is given under both names.
    """
    notes = []
    for old, new in RENAMED.items():
        if old not in content:
            continue
        if new in content:
            raise InputError(f"{path}: {old}: is the former name of '{new}', which is given, too; remove '{old}'")
        if path.name != LOCKED_RECIPE:
            notes.append(f"note: {path}: '{old}' is called '{new}' now; write '{new}: {_yaml(content[old])}'")
        content = {new if key == old else key: value for key, value in content.items()}
    return content, notes


def with_new_places(overrides: Iterable[str]) -> tuple[list[str], list[str]]:
    """`--set` texts under the names of today, and notes for who wrote them.

    Raises:
        InputError: a key is set under both names.
    """
    overrides, notes = list(overrides), []
    keys = {override.partition("=")[0] for override in overrides}
    for old, new in RENAMED.items():
        if old in keys and new in keys:
            raise InputError(f"--set {old}: is the former name of '{new}', which is set, too; leave '{old}' out")
        for index, override in enumerate(overrides):
            key, separator, given = override.partition("=")
            if key == old and separator:
                overrides[index] = f"{new}={given}"
                notes.append(f"note: --set {override}: '{old}' is called '{new}' now; write --set {overrides[index]}")
    return overrides, notes


def _yaml(given: Any) -> str:
    return str(given).lower() if isinstance(given, bool) else value(given)
