"""Throughput in a report: what a profile has of it, in rows and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.measure.withheld import without_figures

_COURSE = "images_by_second"


def entries(profile: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The entries of a latency summary without their course; an invalid one without any figure."""
    measured = (profile or {}).get("throughput") or []
    found = [{key: value for key, value in one.items() if key != _COURSE} for one in measured]
    return [one if one["valid"] else without_figures(one) for one in found]


def batch_of(profile: Mapping[str, Any] | None) -> int | None:
    """Images per inference of the single stream; None where it does not say."""
    given = ((profile or {}).get("environment") or {}).get("input") or {}
    return given["shape"][0] if given else None


def alone(artifact: Mapping[str, Any]) -> str:
    """What the single stream beside it took at once, from a row of `report.json`."""
    return "1 image at a time" if artifact["batch"] in (None, 1) else f"1 stream, batch {artifact['batch']}"


def alone_per_second(artifact: Mapping[str, Any]) -> float | None:
    """Its images per second; None where it is not valid."""
    mean_ms = artifact["latency_ms"]["mean"]
    return None if mean_ms is None else 1e3 * (artifact["batch"] or 1) / mean_ms


def load(entry: Mapping[str, Any]) -> str:
    """What worked at once: `4 streams, batch 8`."""
    streams = f"{entry['streams']} stream{'s' if entry['streams'] > 1 else ''}"
    return streams if entry["batch"] == 1 else f"{streams}, batch {entry['batch']}"


def words(entry: Mapping[str, Any]) -> str:
    """One entry for people; an invalid one has reasons, and no figure."""
    if not entry["valid"]:
        return f"{load(entry)}: INVALID: {'; '.join(entry['invalid_reasons'])}"
    latency, ratio = entry["latency_ms"], entry["ratio_to_single_stream"]
    p90 = "" if latency["p90"] is None else f", p90 {latency['p90']:.2f} ms"
    against = "" if ratio is None else f", {ratio:.2f} times a single stream's"
    rate = f"{entry['images_per_second']:.1f} images/s"
    notes = f" (note: {'; '.join(entry['notes'])})" if entry.get("notes") else ""
    return f"{load(entry)}: {rate}{against}; median under load {latency['p50']:.2f} ms{p90}{notes}"
