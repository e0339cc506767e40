"""Which artifacts are worth having: the Pareto front of latency and accuracy, and the one to try first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

AP_MARGIN = 0.005


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats, fastest first.

    Args:
        points: (latency, AP). A point is beaten by one that is no slower and no less accurate, and better in one of the
            two; so equal points stay together.
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1], index))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front


def mark_front(artifacts: Sequence[dict[str, Any]]) -> None:
    """Set `pareto` of each artifact: on the front of its device (median end-to-end latency, AP), off it, or None.

    None is for artifacts without an AP or a latency, and for latencies that were measured but are not valid.
    """
    for artifact in artifacts:
        artifact["pareto"] = None
    for device in {artifact["device"] for artifact in artifacts}:
        rivals = [artifact for artifact in artifacts if artifact["device"] == device and is_comparable(artifact)]
        front = pareto_front([(rival["latency_ms"]["p50"], rival["ap"]) for rival in rivals])
        for index, rival in enumerate(rivals):
            rival["pareto"] = index in front


def is_comparable(artifact: Mapping[str, Any]) -> bool:
    """Has an AP and a latency that may be compared."""
    measured = artifact["ap"] is not None and artifact["latency_ms"]["p50"] is not None
    return measured and artifact["valid"] is not False


def best_artifact(
    artifacts: Sequence[Mapping[str, Any]], student_ap: float | None, max_ap_drop: float | None
) -> dict[str, Any] | None:
    """The fastest artifact that keeps its accuracy and passed parity, with the rule in words; None where none does.

    Args:
        artifacts: as in `report.json`.
        student_ap: AP of the torch student; None compares with the best artifact.
        max_ap_drop: the recipe's budget; None means `AP_MARGIN`.
    """
    rivals = [a for a in artifacts if is_comparable(a) and a["parity"]["passed"] is not False]
    if not rivals:
        return None
    reference = max(a["ap"] for a in rivals) if student_ap is None else student_ap
    margin = AP_MARGIN if max_ap_drop is None else max_ap_drop
    kept = [a for a in rivals if reference - a["ap"] <= margin + 1e-9]
    if not kept:
        return None
    best = min(kept, key=lambda a: (a["latency_ms"]["p50"], -a["ap"], a["target"]))
    against = "the best artifact" if student_ap is None else "the torch student"
    return {
        "target": best["target"],
        "device": best["device"],
        "rule": f"lowest median end-to-end latency among artifacts at most {margin:g} AP below {against}",
    }
