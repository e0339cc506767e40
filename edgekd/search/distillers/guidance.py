"""Which kind of knowledge is searched first: the one that teaches what the student gets wrong and the teacher does not.

Our own idea. DetKDS divides by kind of knowledge, and shows error types in a figure alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgekd.distill.searched.options import Kind

# Error (measure/error_breakdown.py) -> the kinds of knowledge that speak of it, and how much of it each gets.
TEACHES: Mapping[str, Mapping[Kind, float]] = {
    "classification": {"logits": 0.6, "instance": 0.4},
    "localisation": {"localisation": 0.6, "instance": 0.4},
    "both": {"instance": 0.5, "logits": 0.25, "localisation": 0.25},
    "duplicate": {"logits": 0.5, "localisation": 0.5},
    "background": {"fgbg": 0.7, "logits": 0.3},
    "missed": {"global": 0.6, "fgbg": 0.4},
}


def claims(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> dict[Kind, float]:
    """AP50 that each kind might regain: the errors' costs beyond the teacher's, shared out among the kinds.

    Args:
        student, teacher: `costs` of their error breakdowns.
    """
    found: dict[Kind, float] = dict.fromkeys(("global", "fgbg", "instance", "logits", "localisation"), 0.0)
    for error, kinds in TEACHES.items():
        behind = max(student[error] - teacher[error], 0.0)
        for kind, share in kinds.items():
            found[kind] += share * behind
    return found


def ordered(kinds: Iterable[Kind], by: Mapping[Kind, float]) -> list[Kind]:
    """The kinds, those with the largest claims first; of equal ones as they were."""
    return sorted(kinds, key=lambda kind: -by[kind])
