"""What `edgekd check` says of a head and of a weight."""

from __future__ import annotations

from typing import Any

from edgekd.distill.config import DEFAULT_SHARE


def weight_words(entry: dict[str, Any]) -> str:
    """A weight, or how it is found."""
    if entry["weight"] != "auto":
        return f"{entry['weight']:g}"
    return f"auto, {entry['share'] or DEFAULT_SHARE:g} of the detection loss"


def head_words(spec: dict[str, Any]) -> str:
    """What a head has."""
    facts = spec["head_facts"]
    if spec["head_kind"] == "dense":
        return f"reg_max {facts['bins']}"
    if spec["head_kind"] == "region":
        return f"regions of {facts['width']} channels"
    if spec["head_kind"] == "detections":
        return "nothing inside is known"
    return f"{facts['queries']} queries, {facts['layers']} layers"
