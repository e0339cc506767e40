"""From the agent's events of one or more processes to the content of a latency summary file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekd.errors import EnvironmentFault
from edgekd.measure import contention
from edgekd.measure.energy import energy
from edgekd.measure.latency import PHASES, Phase, Protocol, nearest_rank, summarise
from edgekd.measure.sustained import over_time
from edgekd.measure.telemetry import Telemetry, hottest_c, is_thermometer, telemetry_of
from edgekd.measure.throttling import Conditions, Verdict, judge
from edgekd.measure.withheld import unless_emulated
from edgekd.types import IntArray

SCHEMA = "edgekd.latency/1"
_BYTES_PER_MB = 1e6

Events = Sequence[Mapping[str, Any]]


def summarise_events(
    events: Sequence[Events],
    *,
    protocol: Protocol,
    target: str,
    device: str,
    conditions: Conditions | None = None,
) -> dict[str, Any]:
    """Content of `profile/<target>@<device>.json`.

    Load and first-inference times are medians (nearest rank) over the processes, peak memory (10^6 bytes) and the time
    that building an engine took, which is part of neither, are the largest, the environment is the first process's,
    with the device's state after the run as `telemetry_after`.
    A process that was slowed down, kept waiting by others, or began too hot, makes the whole invalid. Of an emulated
    device there are no figures at all.

    Args:
        events: per process, the agent's events in order.
        protocol: what makes the run valid.
        target, device: what was timed, and where.
        conditions: what the device has to keep.

    Raises:
        EnvironmentFault: a process reported an error or no samples.
    """
    where = f"profile {target}@{device}"
    samples = [_samples(process, f"{where}: process {number}") for number, process in enumerate(events, start=1)]
    if not samples:
        raise EnvironmentFault(f"{where}: no process was run, so there is nothing to summarise")
    warmups = [last(process, "warmup") for process in events]
    summary = summarise(samples, protocol, [bool(warmup.get("steady", True)) for warmup in warmups])
    loads = [last(process, "load") for process in events]
    built_ms = max((load["build_ms"] for load in loads if load.get("build_ms") is not None), default=None)
    peaks = [last(process, "memory").get("peak_memory_bytes") for process in events]
    environment = {key: value for key, value in last(events[0], "environment").items() if key != "event"}
    states = [telemetry_of(process) for process in events]
    after = states[0].after
    used = energy(states, [process["end_to_end"] for process in samples])
    verdicts = [judge(state, conditions_of(conditions, environment)) for state in states]
    slowed = numbered(verdicts, events)
    shares = [contention.contention_of(process) for process in events]
    busy, beside = contention.judge(shares, protocol.max_waited)
    invalid = [*busy, *summary.invalid_reasons, *([] if protocol.may_throttle else slowed)]
    course = over_time(samples[0]["end_to_end"]) if protocol.name == "sustained" else None
    built = [] if built_ms is None else [f"the engine was built on the device, in {built_ms / 1e3:.1f} s"]
    notes = [note for verdict in verdicts for note in verdict.notes]
    told = [*built, *([course.note()] if course else []), *(slowed if protocol.may_throttle else [])]
    content = {
        "schema": SCHEMA,
        "target": target,
        "device": device,
        "protocol": protocol.name,
        "processes": len(events),
        "latency_ms": summary.latency_ms,
        "first_inference_ms": median_of([load.get("first_inference_ms") for load in loads]),
        "load_ms": median_of([load.get("load_ms") for load in loads]),
        "build_ms": built_ms,
        "peak_memory_mb": max((peak / _BYTES_PER_MB for peak in peaks if peak is not None), default=None),
        "cv": summary.cv,
        "drift_percent": summary.drift_percent,
        "process_p50_ms": list(summary.process_p50_ms),
        "spread": summary.spread,
        "contention": [share.as_json() for share in shares],
        "energy_mj_per_inference": used["mj_per_inference"],
        "energy": used,
        "temperature_c": _temperatures(states),
        "throttling_evidence": sorted({kind for verdict in verdicts for kind in verdict.evidence}),
        "valid": not invalid,
        "invalid_reasons": invalid,
        "over_time": course.as_json() if course else None,
        "notes": [*told, *summary.notes, *beside, *dict.fromkeys(notes)],
        "environment": {**environment, "telemetry_after": after} if after else environment,
        "histogram": summary.histogram,
    }
    return unless_emulated(content, conditions.emulated if conditions else None)


def _samples(process: Events, where: str) -> dict[Phase, IntArray]:
    """The chunks of one process, joined in order.

    Raises:
        EnvironmentFault: an error event, or no samples.
    """
    for event in process:
        if event.get("event") == "error":
            raise EnvironmentFault(f"{where}: {event.get('kind', 'error')}: {event.get('message', 'no message')}")
    chunks = [event for event in process if event.get("event") == "samples"]
    joined = {
        phase: np.array([time for chunk in chunks for time in chunk[f"{phase}_ns"]], dtype=np.int64) for phase in PHASES
    }
    counts = {phase: len(times) for phase, times in joined.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        shown = ", ".join(f"{phase} {count}" for phase, count in counts.items())
        raise EnvironmentFault(f"{where}: the agent gave unequal or no samples ({shown}); run the profile again")
    return joined


def conditions_of(conditions: Conditions | None, environment: Mapping[str, Any]) -> Conditions:
    """What the device has to keep, with the machine that it says it is."""
    machine = (environment.get("platform") or {}).get("machine")
    return replace(conditions or Conditions(), machine=machine)


def numbered(verdicts: Sequence[Verdict], events: Sequence[Events]) -> list[str]:
    """Reasons with the process that they are of."""
    reasons = []
    for number, (verdict, process) in enumerate(zip(verdicts, events, strict=True), start=1):
        gates = [event for event in process if event.get("event") == "thermal_gate"]
        hot = [f"it began too hot: {gate['reason']}" for gate in gates if not gate["passed"]]
        reasons += [f"process {number}: {reason}" for reason in (*hot, *verdict.invalid_reasons)]
    return reasons


def _temperatures(states: Sequence[Telemetry]) -> dict[str, float | None]:
    """The hottest sensor before the first process, and at any time."""
    told = [pair for state in states for pair in state.values("temperatures_c", before=True)]
    highest = [degrees for name, degrees in told if is_thermometer(name)]
    return {"start": hottest_c(states[0].before.get("temperatures_c")), "max": max(highest, default=None)}


def last(process: Events, kind: str) -> Mapping[str, Any]:
    """The last event of a kind, or an empty one."""
    return next((event for event in reversed(process) if event.get("event") == kind), {})


def median_of(values: Sequence[float | None]) -> float | None:
    """Nearest-rank median of those that are known."""
    known = sorted(value for value in values if value is not None)
    return float(known[nearest_rank(len(known), 50)]) if known else None
