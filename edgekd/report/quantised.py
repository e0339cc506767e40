"""What quantisation did: accuracy before and after, and the layers that suffered most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN_LAYERS = 12
_REASONS = {"max_drop": "float, for max_drop", "ignore": "float, as the target says"}


def quantised(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per quantised target: a row per device, and its most sensitive layers, the worst first."""
    targets: dict[str, list[Mapping[str, Any]]] = {}
    for artifact in report["artifacts"]:
        if artifact["quantization"]:
            targets.setdefault(artifact["target"], []).append(artifact)
    return [_entry(target, artifacts, report["student"]) for target, artifacts in targets.items()]


def _entry(target: str, artifacts: list[Mapping[str, Any]], student: Mapping[str, Any]) -> dict[str, Any]:
    record = artifacts[0]["quantization"]
    layers = record["layers"]
    largest = max((layer["noise"] or 0.0 for layer in layers), default=0.0) or 1.0
    ranked = [layer for layer in layers if layer["noise"] is not None]
    chosen = ranked[:SHOWN_LAYERS] + [layer for layer in ranked[SHOWN_LAYERS:] if layer["float"]]
    chosen += [layer for layer in layers if layer["noise"] is None]
    return {
        "target": target,
        "record": record,
        "layers": len(layers),
        "rows": [_row(artifact, student) for artifact in artifacts],
        "shown": [
            {**layer, "width": (layer["noise"] or 0.0) / largest, "state": _REASONS.get(layer["float"], "8 bits")}
            for layer in chosen
        ],
        "sources": [f"export/{target}/quantization.json", *(artifact["sources"]["accuracy"] for artifact in artifacts)],
    }


def _row(artifact: Mapping[str, Any], student: Mapping[str, Any]) -> dict[str, Any]:
    before, after = (model["operating_point"] or {} for model in (student, artifact))
    row = {"device": artifact["device"], "ap": (student["ap"], artifact["ap"])}
    return row | {key: (before.get(key), after.get(key)) for key in ("precision", "recall")}
