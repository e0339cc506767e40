"""A check of a figure of time in the light of its spread: a budget missed by less than that may well be kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekd.gate.verdict import Check


def weighed(check: Check, spread: float | None, notes: Sequence[str]) -> Check:
    """The check, inconclusive where its budget is missed by less than the processes lie apart, with its figure's notes.

    Args:
        check: of one budget.
        spread: of the figure over the processes, relative to the least of them; None if it is not known.
        notes: what a reader should know of the figure.
    """
    if check.value is None:
        return check
    detail, status = check.detail, check.status
    if status == "fail" and spread is not None and _missed_by(check) < spread:
        detail = f"{detail}, less than the processes differ ({spread:.1%}): measure longer, or on a quieter device"
        status = "inconclusive"
    shown = f" (note: {'; '.join(notes)})" if notes else ""
    return replace(check, status=status, detail=f"{detail}{shown}")


def _missed_by(check: Check) -> float:
    """Relative to the smaller of value and limit."""
    assert check.value is not None
    larger, smaller = (check.value, check.limit) if check.op == "<=" else (check.limit, check.value)
    return larger / smaller - 1 if smaller > 0 else float("inf")
