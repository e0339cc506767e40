"""What stages took in an earlier run of the same recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.errors import EdgekdError
from edgekd.run_dir import manifest

_MOST = 100  # runs that are looked at


def former_seconds(folder: Path, recipe: str) -> dict[str, float]:
    """Stage -> seconds, of the latest run of a recipe in a folder of runs that did it; a damaged run is passed by."""
    found: dict[str, tuple[str, float]] = {}
    runs = sorted(folder.glob(f"*/{manifest.MANIFEST}"))[:_MOST] if folder.is_dir() else []
    for content in filter(None, (_read(file.parent) for file in runs)):
        if content["recipe"] != recipe:
            continue
        for stage, entry in content["stages"].items():
            finished, seconds = str(entry.get("finished", "")), entry.get("seconds")
            if isinstance(seconds, (int, float)) and finished >= found.get(stage, ("", 0.0))[0]:
                found[stage] = (finished, float(seconds))
    return {stage: seconds for stage, (_, seconds) in found.items()}


def _read(run: Path) -> dict[str, Any] | None:
    try:
        return manifest.read(run)
    except (EdgekdError, OSError):
        return None
