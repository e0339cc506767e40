"""Paths that a recipe holds, in a recipe that is written elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def moved(content: dict[str, Any], base: Path, folder: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Paths below the recipe's folder, as they are from another; (place, path) of those that change."""
    for place in _places(content):
        value: Any = content
        for part in place:
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or Path(value).is_absolute() or not (base / value).exists():
            continue
        if not (folder / value).exists() or not (folder / value).samefile(base / value):
            yield place, os.path.relpath(base / value, folder)


def _places(content: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Where a recipe may hold paths of files and folders."""
    yield ("data", "path")
    yield ("data", "unlabelled")
    yield ("data", "unlabelled", "images")
    for split in ("train", "val", "test"):
        yield from (("data", split, "images"), ("data", split, "annotations"))
    for side in ("teacher", "student"):
        yield from ((side, "weights"), (side, "model"))
    others = content.get("teachers")
    for name in others if isinstance(others, dict) else ():
        yield from (("teachers", str(name), "weights"), ("teachers", str(name), "model"))
