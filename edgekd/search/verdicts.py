"""What measurements say of candidates: which fit their budgets, which are dominated, which need not be measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edgekd.gate.policy import GateConfig
from edgekd.report.pareto import is_close
from edgekd.search.latency_fit import Prediction
from edgekd.search.students import Candidate

BUDGETS = {"max_p90_ms": "p90_ms", "max_memory_mb": "memory_mb", "max_size_mb": "size_mb", "max_energy_mj": "energy_mj"}
_LEAST_POINTS = 3  # of a target on the device, before a prediction decides that something is not measured
Status = Literal["measured", "invalid", "impossible", "open"]


@dataclass(frozen=True)
class Result:
    """What became of a candidate on a device.

    Attributes:
        status: measured; invalid: it was, and the figures must not be used; impossible: it cannot be made, or does not
            run there; open: not measured.
        reason: of invalid and impossible.
        spread: of the median, as the processes differ; relative.
    """

    status: Status = "open"
    reason: str = ""
    p50_ms: float | None = None
    p90_ms: float | None = None
    memory_mb: float | None = None
    size_mb: float | None = None
    energy_mj: float | None = None
    spread: float = 0.0
    notes: tuple[str, ...] = ()


OPEN = Result()


def budgets_of(gate: GateConfig, target: str, device: str) -> dict[str, float]:
    """Budgets of a target on a device: its own, else the least that any target has there."""
    found = {}
    for budget in BUDGETS:
        given = {name: limit for name, limit in getattr(gate, budget).items() if name.endswith(f"@{device}")}
        if given:
            found[budget] = given.get(f"{target}@{device}", min(given.values()))
    return found


def excess(result: Result, budgets: Mapping[str, float]) -> dict[str, float | None]:
    """Budget -> how many times what is allowed; None where it was not measured."""
    used = {budget: getattr(result, BUDGETS[budget]) for budget in budgets}
    return {budget: None if used[budget] is None else used[budget] / limit for budget, limit in budgets.items()}


def fits(result: Result, budgets: Mapping[str, float]) -> bool | None:
    """Whether a measured candidate keeps its budgets; None where that is not known, or it has none."""
    if result.status != "measured" or not budgets:
        return None
    found = excess(result, budgets).values()
    if any(share is not None and share > 1 for share in found):
        return False
    return None if any(share is None for share in found) else True


def beats(one: tuple[Candidate, Result], other: tuple[Candidate, Result]) -> bool:
    """Whether a measured candidate leaves no reason to take another: faster and as good, or as fast and better."""
    (first, fast), (second, slow) = one, other
    if not first.at_least_as_good(second) or fast.p50_ms is None or slow.p50_ms is None or fast.p50_ms > slow.p50_ms:
        return False
    if not second.at_least_as_good(first):
        return True
    return fast.p50_ms < slow.p50_ms and not is_close(fast.p50_ms, slow.p50_ms, max(fast.spread, slow.spread))


def dominated_by(candidate: Candidate, results: Mapping[str, Result], candidates: Sequence[Candidate]) -> str | None:
    """The fastest measured candidate that beats this one."""
    own = (candidate, results[candidate.name])
    rivals = [
        (one, found)
        for one in candidates
        if one is not candidate and (found := results.get(one.name, OPEN)).status == "measured"
    ]
    better = [pair for pair in rivals if beats(pair, own)]
    return min(better, key=lambda pair: pair[1].p50_ms or math.inf)[0].name if better else None


def surpassed_by(candidate: Candidate, keeping: Sequence[Candidate]) -> str | None:
    """Of candidates that keep their budgets, one that is better than this one, whatever this one's latency is."""
    better = (one for one in keeping if one.at_least_as_good(candidate) and not candidate.at_least_as_good(one))
    return next((one.name for one in better), None)


def nearest(
    candidates: Sequence[Candidate], results: Mapping[str, Result], budgets: Mapping[str, Mapping[str, float]]
) -> tuple[Candidate, str, float] | None:
    """Of candidates that all break a budget: the one that breaks it least, which budget, and how many times."""
    found = []
    for one in candidates:
        result = results.get(one.name, OPEN)
        shares = {budget: share for budget, share in excess(result, budgets[one.name]).items() if share is not None}
        if result.status == "measured" and shares:
            worst = max(shares, key=lambda budget: shares[budget])
            found.append((one, worst, shares[worst]))
    return min(found, key=lambda entry: entry[2], default=None)


def predicted_out(
    candidate: Candidate,
    prediction: Prediction | None,
    points: int,
    limit_ms: float | None,
    measured: Sequence[tuple[Candidate, Result, bool]],
) -> str | None:
    """Why a candidate need not be measured: by its prediction, even taken at its best; None if it has to be.

    Args:
        points: measured of its target on the device.
        limit_ms: its budget of p90.
        measured: others, and whether they keep their budgets.
    """
    if prediction is None or points < _LEAST_POINTS:
        return None
    if limit_ms is not None and prediction.low_ms > limit_ms:
        return "predicted beyond its budget"
    for other, result, kept in measured:
        if kept and other.at_least_as_good(candidate) and (result.p90_ms or math.inf) < prediction.low_ms:
            return f"predicted slower than {other.name}, which is as good or better"
    return None


def next_to_measure(
    waiting: Sequence[Candidate],
    predictions: Mapping[str, Prediction | None],
    limits_ms: Mapping[str, float | None],
    measured_gflops: Mapping[str, Sequence[float]],
) -> Candidate:
    """The candidate whose measurement says most.

    Of each target first the one with the least work, which is soon measured; then what is predicted nearest to its
    budget; without a budget, what differs most in its work from all that is measured.

    Args:
        waiting: at least one.
        measured_gflops: by target.
    """
    new = [one for one in waiting if predictions[one.name] is None]
    if new:
        return min(new, key=lambda one: (one.facts.gflops, one.name))

    def distance(one: Candidate) -> tuple[float, float]:
        prediction, limit = predictions[one.name], limits_ms[one.name]
        assert prediction is not None
        if limit is not None:
            return abs(math.log(prediction.ms / limit)), prediction.ms
        known = measured_gflops[one.target.name]
        return -min(abs(math.log(one.facts.gflops / other)) for other in known), prediction.ms

    return min(waiting, key=lambda one: (*distance(one), one.name))
