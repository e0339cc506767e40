"""Rows of a benchmark that takes long: kept in a file of JSON lines, each as soon as it is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """What is there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add(path: Path, row: dict[str, Any]) -> None:
    """Keep one more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
