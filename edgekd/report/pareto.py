"""Which artifacts are worth having: the Pareto front of latency and accuracy, and the one to try first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

AP_MARGIN = 0.005


def pareto_front(points: Sequence[tuple[float, float]], spreads: Sequence[float] = ()) -> list[int]:
    """Indices of the points that no other point beats, fastest first.

    Args:
        points: (latency, AP). A point is beaten by one that is no slower and more accurate, or faster by more than the
            spread and no less accurate; so equal points stay together.
        spreads: per point, how far its processes lie apart, relative; default: not at all.
    """
    apart = list(spreads) or [0.0] * len(points)

    def beats(first: int, second: int) -> bool:
        (fast, ap), (slow, other_ap) = points[first], points[second]
        if ap > other_ap and fast <= slow:
            return True
        return ap >= other_ap and fast < slow and not is_close(fast, slow, max(apart[first], apart[second]))

    front = [index for index in range(len(points)) if not any(beats(other, index) for other in range(len(points)))]
    return sorted(front, key=lambda index: (points[index][0], -points[index][1], index))


def is_close(fast: float, slow: float, spread: float) -> bool:
    """Whether two latencies differ by less than the spread, so that neither is known to be the lower one."""
    return slow - fast < spread * fast


def mark_front(artifacts: Sequence[dict[str, Any]]) -> None:
    """Set `pareto` of each artifact: on the front of its device (median end-to-end latency, AP), off it, or None.

    None is for artifacts without an AP or a latency, and for latencies that were measured but are not valid.
    """
    for artifact in artifacts:
        artifact["pareto"] = None
    for device in {artifact["device"] for artifact in artifacts}:
        rivals = [artifact for artifact in artifacts if artifact["device"] == device and is_comparable(artifact)]
        points = [(rival["latency_ms"]["p50"], rival["ap"]) for rival in rivals]
        front = pareto_front(points, [_spread(rival) for rival in rivals])
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

    `target` and `device` are None where several are closer than the spread of their processes; `tied` names them.

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
    close = [a for a in kept if is_close(best["latency_ms"]["p50"], a["latency_ms"]["p50"], _apart(best, a))]
    tied = sorted({id(a): f"{a['target']}@{a['device']}" for a in (best, *close)}.values())
    against = "the best artifact" if student_ap is None else "the torch student"
    rule = f"lowest median end-to-end latency among artifacts at most {margin:g} AP below {against}"
    if len(tied) > 1:
        rule += f"; {', '.join(tied)} are closer than their processes differ, so none of them is called the best"
    return {
        "target": best["target"] if len(tied) == 1 else None,
        "device": best["device"] if len(tied) == 1 else None,
        "tied": tied if len(tied) > 1 else [],
        "rule": rule,
    }


def _apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    return max(_spread(first), _spread(second))


def _spread(artifact: Mapping[str, Any]) -> float:
    return (artifact.get("spread") or {}).get("p50") or 0.0
