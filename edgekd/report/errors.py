"""The errors of teacher, control and student by kind, as rows for the page and its Markdown twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekd.measure.error_breakdown import BACKGROUND_IOU, FOREGROUND_IOU, KINDS
from edgekd.report.numbers import ROLE_NAMES

_MEANINGS = {
    "classification": f"wrong class, IoU at least {FOREGROUND_IOU:g}",
    "localisation": f"right class, IoU {BACKGROUND_IOU:g} to {FOREGROUND_IOU:g}",
    "both": "wrong class and wrong place",
    "duplicate": "an object that a better detection has found",
    "background": f"no object there, IoU at most {BACKGROUND_IOU:g}",
    "missed": "an object that no detection is near to",
}


@dataclass(frozen=True)
class ErrorRow:
    """One kind of error.

    Attributes:
        kind, meaning: in words.
        models: role -> (errors, AP50 that mending them would add), None of a model that was not measured so.
        width: role -> the cost as a share of the largest one in the table, 0..1.
    """

    kind: str
    meaning: str
    models: dict[str, tuple[int, float] | None]
    width: dict[str, float]


def error_rows(report: Mapping[str, Any]) -> list[ErrorRow]:
    """A row per kind; none where no model's errors were counted."""
    found = {role: report[role].get("errors") for role in ROLE_NAMES}
    costs = [cost for errors in found.values() if errors for cost in errors["costs"].values()]
    if not costs:
        return []
    largest = max([*costs, 1e-9])
    return [
        ErrorRow(
            kind,
            _MEANINGS[kind],
            {
                role: (errors["counts"][kind], errors["costs"][kind]) if errors else None
                for role, errors in found.items()
            },
            {role: errors["costs"][kind] / largest if errors else 0.0 for role, errors in found.items()},
        )
        for kind in KINDS
    ]
