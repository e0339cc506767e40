"""What timing programs gave, beside the agent or where it does not run: inference alone, never end to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEPT = (
    "tool", "lane", "size", "processes", "valid", "invalid_reasons", "notes", "tool_statistics", "load_ms",
    "first_inference_ms", "peak_memory_mb", "energy_mj_per_inference",
)  # fmt: skip
_FIGURES = ("p50", "p90", "p95", "p99", "mean", "min", "max", "count")
_OWN_MEAN = "avg"


def lanes_of(profile: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Rows of `report.json`: per lane its program and figures; `own_mean_ms` where it keeps no samples."""
    return [_row(lane) for lane in (profile or {}).get("lanes") or []]


def words(lane: Mapping[str, Any]) -> str:
    """One lane in words, of a row or of a summary."""
    what = f"inference alone, {lane['tool']}, {lane['lane']}" + (f", {lane['size']}" if lane.get("size") else "")
    if not lane["valid"]:
        return f"INVALID: {'; '.join(lane['invalid_reasons'])} ({what})"
    figures = lane["latency_ms"].get("inference") or {}
    if figures.get("p50") is None:
        mean_ms = _own_mean_ms(lane)
        shown = "no figures" if mean_ms is None else f"mean {mean_ms:.2f} ms"
        return f"{shown} ({what}; it keeps no samples, so there are no percentiles)"
    p90 = "too few samples" if figures["p90"] is None else f"{figures['p90']:.2f} ms"
    return f"median {figures['p50']:.2f} ms, p90 {p90} ({what})"


def _row(lane: Mapping[str, Any]) -> dict[str, Any]:
    figures = (lane.get("latency_ms") or {}).get("inference") or {}
    row = {key: lane.get(key) for key in _KEPT}
    return row | {
        "latency_ms": {"inference": {key: figures.get(key) for key in _FIGURES}},
        "own_mean_ms": _own_mean_ms(lane),
    }


def _own_mean_ms(lane: Mapping[str, Any]) -> float | None:
    """The program's own mean, over its processes; None where there are samples, or no such figure."""
    if (lane.get("latency_ms") or {}).get("inference"):
        return None
    means = [one[_OWN_MEAN] for one in lane.get("tool_statistics") or [] if _OWN_MEAN in one]
    return sum(means) / len(means) if means else None
