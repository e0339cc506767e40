"""Energy per inference: mean power while the loop ran, times the mean time of a pass.

Power is that of the whole module under the rule that is named; what it takes when idle is part of it, since a device
that waits for the next frame takes that too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.measure.telemetry import Column, Telemetry
from edgekd.types import IntArray

LEAST_SAMPLES = 3
LEAST_COVERAGE = 0.8
_NS_PER_S = 1e9


@dataclass(frozen=True)
class TotalRule:
    """Which rails make up the module's power.

    Attributes:
        rails: whose sum it is.
    """

    rails: tuple[str, ...]

    @property
    def name(self) -> str:
        """As it is written beside every figure."""
        return " + ".join(self.rails)


# In this order; the first of which all rails are there. A rail of the input comes before any sum of parts.
# AGX Orin: VIN_SYS_5V0 is what remains of the module, and VDDQ_VDD2_1V8AO is a part of it. Thor: VIN is of the whole
# board, its carrier included, and is left out, so that boards compare.
TOTAL_RULES = (
    TotalRule(("VDD_IN",)),
    TotalRule(("POM_5V_IN",)),
    TotalRule(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")),
    TotalRule(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")),
    TotalRule(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")),
)


def total_rule(rails: Collection[str]) -> TotalRule | None:
    """The rule for a board with these rails; None if none is known."""
    return next((rule for rule in TOTAL_RULES if set(rule.rails) <= set(rails)), None)


def energy(processes: Sequence[Telemetry], end_to_end_ns: Sequence[IntArray]) -> dict[str, Any]:
    """Energy per pass of the timed loop, over one or more processes.

    Args:
        processes: per process, its telemetry.
        end_to_end_ns: per process, (N,) times of the passes.

    Returns:
        `mj_per_inference`: None with a `reason` where power is not known well enough; else the mean over the
        processes. Also `process_mj`, `mean_power_mw`, `rails_mw` (mean of every rail), `total_rule` (the rails that
        were summed), `samples` of power, and `idle_subtracted`, which is False.
    """
    found: dict[str, Any] = {
        "mj_per_inference": None, "process_mj": [], "mean_power_mw": None, "rails_mw": {}, "total_rule": None,
        "samples": 0, "idle_subtracted": False, "reason": None,
    }  # fmt: skip
    rails = [_rails(process) for process in processes]
    shared = [name for name in rails[0] if all(name in other for other in rails)] if rails else []
    rule = total_rule(shared)
    if rule is None:
        found["reason"] = (
            f"no rule for the sum of the rails {', '.join(shared)}" if shared else "no power sensor was read"
        )
        found["rails_mw"] = _means(processes, rails, shared)
        return found
    found |= {"total_rule": rule.name, "rails_mw": _means(processes, rails, shared)}
    for process, columns, times_ns in zip(processes, rails, end_to_end_ns, strict=True):
        total = np.sum([columns[name] for name in rule.rails], axis=0)
        known = ~np.isnan(total)
        moments_ns = process.time_ns[known]
        if reason := _too_little(moments_ns, times_ns):
            return found | {"process_mj": [], "reason": reason}
        power_mw = _mean(moments_ns, total[known])
        found["process_mj"].append(power_mw * float(np.mean(times_ns)) / _NS_PER_S)
        found["samples"] += int(known.sum())
    found["mj_per_inference"] = float(np.mean(found["process_mj"]))
    found["mean_power_mw"] = float(np.sum([found["rails_mw"][name] for name in rule.rails]))
    return found


def _rails(process: Telemetry) -> Mapping[str, Column]:
    """Rails that gave a number at least once."""
    columns = process.columns.get("power_mw", {})
    return {name: column for name, column in columns.items() if not np.isnan(column).all()}


def _means(
    processes: Sequence[Telemetry], rails: Sequence[Mapping[str, Column]], names: Sequence[str]
) -> dict[str, float]:
    """Mean power per rail, over the processes."""
    means = {}
    for name in names:
        parts = []
        for process, columns in zip(processes, rails, strict=True):
            known = ~np.isnan(columns[name])
            parts.append(_mean(process.time_ns[known], columns[name][known]))
        means[name] = float(np.mean(parts))
    return means


def _mean(moments_ns: IntArray, power_mw: Column) -> float:
    """Mean over time (trapezoids), so that a late reading does not count for more than its time."""
    span_ns = float(moments_ns[-1] - moments_ns[0])
    if span_ns <= 0:
        return float(power_mw.mean())
    return float(np.sum(np.diff(moments_ns) * (power_mw[1:] + power_mw[:-1]) / 2) / span_ns)


def _too_little(moments_ns: IntArray, times_ns: IntArray) -> str | None:
    if len(moments_ns) < LEAST_SAMPLES:
        return f"{len(moments_ns)} of at least {LEAST_SAMPLES} readings of power in a process"
    covered_s, timed_s = (moments_ns[-1] - moments_ns[0]) / _NS_PER_S, float(np.sum(times_ns)) / _NS_PER_S
    if covered_s < LEAST_COVERAGE * timed_s:
        return f"power was read over {covered_s:.1f} of {timed_s:.1f} s"
    return None
