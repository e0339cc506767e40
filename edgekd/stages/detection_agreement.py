"""Is it the same model there? Detections of an artifact on a device against those of the torch student on this machine.

Parity is judged where the artifact was made. A kernel of another processor, or a driver, may compute something else all
the same, and the latency of a model that does is that of nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.agent.postprocess import Decoded
from edgekd.atomic import read_json
from edgekd.export.contract import TargetSpec
from edgekd.export.matched import Matches
from edgekd.stages.context import Context
from edgekd.stages.export import measured_size
from edgekd.stages.quantize import student_for
from edgekd.types import Detections

LEAST_MATCHED = 0.9  # of a target that states no share: NMS decides near-ties otherwise, nothing else should


def same_model(context: Context, target: TargetSpec, found: Sequence[Detections]) -> dict[str, Any] | None:
    """Content of `same_model` in `validate/<target>@<device>.json`: shares as in `parity.json`, limit, outcome.

    None where the student saw something else: images of another size, or an NMS with rules of its own. `passed` is None
    where the student detects nothing.

    Args:
        found: per validation image, boxes in pixels of the original image.
    """
    reference = context.path / "validate" / f"{student_for(context, target)}@host.detections.jsonl"
    if target.nms != "outside" or measured_size(target, context) != context.size_px or not reference.is_file():
        return None
    matches = Matches()
    lines = reference.read_text(encoding="utf-8").splitlines()
    for line, actual in zip(lines, found, strict=True):
        matches.add(_decoded(json.loads(line)), Decoded(actual.boxes_px, actual.scores, actual.class_ids))
    least = target.tolerance.min_matched or LEAST_MATCHED
    passed = None if matches.share is None else matches.share >= least
    return {**matches.as_json(), "least": least, "passed": passed}


def refusal(context: Context, name: str) -> list[str]:
    """Why the latency of `target@device` must not be used, if its accuracy was measured and says so: at most one."""
    path = context.path / "validate" / f"{name}.json"
    found = (read_json(path).get("same_model") if path.is_file() else None) or {}
    if found.get("passed") is not False:
        return []
    return [
        f"another model there: it finds {found['share']:.1%} of the torch student's {found['detections']} detections,"
        f" at least {found['least']:.0%} are asked for"
    ]


def refuse(reasons: Sequence[str], *summaries: dict[str, Any]) -> None:
    """Make latency summaries invalid for these reasons, if there are any."""
    for summary in summaries:
        summary["invalid_reasons"] = [*summary["invalid_reasons"], *reasons]
        summary["valid"] = summary["valid"] and not reasons


def _decoded(line: dict[str, Any]) -> Decoded:
    return Decoded(
        np.asarray(line["boxes_px"], np.float32).reshape(-1, 4),
        np.asarray(line["scores"], np.float32),
        np.asarray(line["class_ids"], np.int64),
    )
