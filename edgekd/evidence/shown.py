"""What a file says, for people."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edgekd.evidence.document import Document

_WORDS = {"lacking": "cannot be done here"}


def rows(found: Document) -> list[dict[str, Any]]:
    """A line for each experiment that was begun, or could be."""
    return [
        {
            "experiment": entry.experiment, "status": entry.status,
            "seconds": "" if entry.seconds is None else f"{entry.seconds:.0f}", "reason": entry.reason or "",
        }
        for entry in found.entries
        if entry.status != "lacking"
    ]  # fmt: skip


def summary(found: Document) -> list[str]:
    """How many of each, and why some cannot be done on this machine."""
    counts = Counter(entry.status for entry in found.entries)
    lacking: dict[str, list[str]] = {}
    for entry in found.entries:
        if entry.status == "lacking":
            lacking.setdefault(entry.reason or "", []).append(entry.experiment)
    told = ", ".join(f"{count} {_WORDS.get(status, status)}" for status, count in counts.items())
    return [f"{found.machine}: {told}", *(f"not here: {', '.join(names)}: {why}" for why, names in lacking.items())]
