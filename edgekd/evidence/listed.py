"""Targets and devices, with what was executed on hardware: from the files of `docs/evidence` alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edgekd.evidence.kept import Executed, executed
from edgekd.stages import listing


def targets(place: Path | None = None) -> list[dict[str, Any]]:
    """The rows of `list_targets`; what a file shows is untested no more, until the code of that row changes.

    A target stands for itself: another precision of the same step is other code of its library.
    """
    shown = [one for one in executed(place) if not one.changed]
    return [
        {**_with(row, _of(shown, "target", row["target"])), "providers": _providers(shown, row["runtime"])}
        for row in listing.list_targets()
    ]


def _providers(shown: Iterable[Executed], runtime: str) -> list[str]:
    """Of a runtime, where it ran, with any target."""
    start = f"provider {runtime} "
    found = [f"{one.row.removeprefix(start)} {one.told}" for one in shown if one.row.startswith(start)]
    return list(dict.fromkeys(found))


def _with(row: dict[str, Any], shown: list[Executed]) -> dict[str, Any]:
    words = {word for one in shown for word in one.words}
    untested = [text for texts in row["untested"].values() for word, text in texts.items() if word not in words]
    return {**row, "untested": untested, "executed": _lines(shown)}


def devices(place: Path | None = None) -> list[dict[str, Any]]:
    """The rows of `list_devices`, with the machines that were one."""
    shown = [one for one in executed(place) if not one.changed]
    return [{**row, "executed": _lines(_of(shown, "device", row["device"]))} for row in listing.list_devices()]


def _of(shown: Iterable[Executed], kind: str, name: str) -> list[Executed]:
    return [one for one in shown if one.row == f"{kind} {name}"]


def _lines(shown: Iterable[Executed]) -> list[str]:
    return list(dict.fromkeys(one.told for one in shown))
