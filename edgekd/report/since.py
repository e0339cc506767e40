"""What changed since the release that the gate compares with, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.gate import baseline as releases
from edgekd.gate.baseline import Entry
from edgekd.report.files import RunFiles

_MOST_CLASSES = 5
_FIGURES = ("ap", "ap50", "p50_ms", "p90_ms", "size_bytes", "peak_memory_mb", "images_per_second")
_OF_TIME = ("p50_ms", "p90_ms", "peak_memory_mb", "images_per_second")


def changes(files: RunFiles, recipe: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any] | None:
    """`report.json`'s `since`: per artifact what the release measured and what is measured now.

    None without a release to compare with, and where its file is not there any more. `same_environment` says whether
    times of an artifact can be compared; `same_data` whether AP was measured on the same images.
    """
    against = (recipe.get("gate") or {}).get("against")
    if not against:
        return None
    try:
        release = releases.load(Path(against["store"]), against["baseline"])
    except (InputError, OSError):
        return None
    before = {entry.name: entry for entry in release.artifacts}
    now = {one.name: one for one in (_now(files, row) for row in report["artifacts"] if row["device"])}
    split = ((report["data"] or {}).get("splits") or {}).get("val") or {}
    return {
        "baseline": release.name, "saved": release.saved, "edgekd": release.edgekd,
        "same_data": release.data is not None and release.data == split.get("content_hash"),
        "student_ap": {"before": release.student_ap, "now": report["student"]["ap"]},
        "artifacts": [_change(name, before.get(name), now.get(name)) for name in sorted({*before, *now})],
    }  # fmt: skip


def _now(files: RunFiles, row: Mapping[str, Any]) -> Entry:
    profile = files.json(f"profile/{row['target']}@{row['device']}.json") or {}
    return releases.entry(row, profile.get("environment"))


def _change(name: str, before: Entry | None, now: Entry | None) -> dict[str, Any]:
    figures = {
        key: {"before": getattr(before, key, None), "now": getattr(now, key, None)}
        for key in _FIGURES
    }  # fmt: skip
    same = before is not None and now is not None and None not in (before.fingerprint, now.fingerprint)
    return {
        "artifact": name, "state": "new" if before is None else "gone" if now is None else "both",
        "same_file": before is not None and now is not None and before.files == now.files,
        "same_environment": bool(same and before and now and before.fingerprint == now.fingerprint),
        **figures, "classes": _classes(before, now),
    }  # fmt: skip


def _classes(before: Entry | None, now: Entry | None) -> list[dict[str, Any]]:
    """The classes whose AP changed most."""
    if before is None or now is None:
        return []
    rows: list[dict[str, Any]] = []
    for name, old in before.per_class.items():
        new = now.per_class.get(name)
        if old is not None and new is not None:
            rows.append({"class": name, "before": old, "now": new})
    return sorted(rows, key=lambda row: -abs(row["now"] - row["before"]))[:_MOST_CLASSES]


def comparable(row: Mapping[str, Any], key: str) -> bool:
    """Whether a difference of a figure means anything: both are there, and times are of one environment."""
    known = row[key]["before"] is not None and row[key]["now"] is not None
    return known and (key not in _OF_TIME or row["same_environment"])
