"""What is left of a latency summary that must not be used: all about the measurement, and none of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# By name, so that a figure that is added later is withheld until somebody lists it here.
_KEPT = frozenset({
    "schema", "target", "device", "protocol", "processes", "tool", "lane", "size", "streams", "batch", "threads",
    "valid", "invalid_reasons", "environment", "throttling_evidence", "temperature_c",
})  # fmt: skip


# How the first reason of a measurement begins that would be invalid at any other time, too.
EMULATED, ANOTHER_MODEL = "emulated", "another model"


def is_lasting(invalid_reasons: Sequence[str]) -> bool:
    """Whether to measure again would change nothing."""
    return any(reason.startswith((EMULATED, ANOTHER_MODEL)) for reason in invalid_reasons)


def is_unusable(summary: Mapping[str, Any]) -> bool:
    """Whether a measurement is invalid though its device could give a valid one."""
    return summary["valid"] is False and not any(reason.startswith(EMULATED) for reason in summary["invalid_reasons"])


def unless_emulated(summary: dict[str, Any], stated: str | None) -> dict[str, Any]:
    """The summary as it is, or invalid and without figures where a program plays the device's processor.

    Args:
        summary: content of a latency summary file, with the agent's `environment` if it has one.
        stated: what the device's file says of it.
    """
    platform = (summary.get("environment") or {}).get("platform") or {}
    found = stated or platform.get("emulated")
    if not found:
        return summary
    return {**without_figures(summary), "valid": False, "invalid_reasons": [f"{EMULATED}: {found}"]}


def without_figures(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The summary with null in the place of every figure, and no notes, which may quote some."""
    return {key: value if key in _KEPT else _nothing(value) for key, value in summary.items()}


def _nothing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _nothing(inner) for key, inner in value.items()}
    return [] if isinstance(value, (list, tuple)) else None
