"""What a timing program gave, in one form for all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgekd.errors import EnvironmentFault
from edgekd.measure.contention import UNKNOWN
from edgekd.measure.energy import energy
from edgekd.measure.latency import Protocol, figures, histogram, judge_runs, spreads
from edgekd.measure.sustained import over_time
from edgekd.measure.telemetry import Telemetry
from edgekd.measure.throttling import Conditions, judge
from edgekd.measure.withheld import unless_emulated
from edgekd.types import IntArray

SCHEMA = "edgekd.latency/1"
_SHOWN_CHARACTERS = 200
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class ToolTiming:
    """One process of a timing program.

    Attributes:
        tool: its name, with its version where it tells it.
        lane: what the samples are times of, e.g. `gpu_compute`.
        samples_ms: raw, in the order taken; empty where the program keeps none.
        own_ms: statistics as the program prints them, under its own names and by its own definitions.
        load_ms, first_inference_ms, peak_memory_mb: None where it does not tell.
        wall_ms: of one inference, for the whole of the run; where inferences overlap, less than a sample.
        count: inferences of the run; None: as many as samples.
        warnings: its own, that speak about the figures.
        facts: whatever else belongs to the record.
    """

    tool: str
    lane: str
    samples_ms: tuple[float, ...] = ()
    own_ms: Mapping[str, float] = field(default_factory=dict)
    load_ms: float | None = None
    first_inference_ms: float | None = None
    peak_memory_mb: float | None = None
    wall_ms: float | None = None
    count: int | None = None
    warnings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def summarise_tool(
    processes: Sequence[ToolTiming],
    *,
    protocol: Protocol,
    target: str,
    device: str,
    size: str | None = None,
    telemetry: Sequence[Telemetry] = (),
    conditions: Conditions | None = None,
    faults: Sequence[str] = (),
) -> dict[str, Any]:
    """Content of a latency summary; the figures are of inference alone, without what comes before and after it.

    Percentiles come from raw samples, by the one definition of `edgekd.measure.latency`. A program that keeps none
    gives `tool_statistics` instead, one set per process: its own, and no percentile beside them.

    Args:
        processes: at least one.
        protocol: what makes the run valid.
        target, device: what was timed, and where.
        size: batch and streams, if they are not one, e.g. `batch 8, 2 streams`.
        telemetry: of the device during each process; empty if it was not read.
        conditions: what the device has to keep.
        faults: what else speaks against the run, e.g. that a process began too hot.

    Raises:
        EnvironmentFault: no process.
    """
    if not processes:
        raise EnvironmentFault(f"profile {target}@{device}: no process was run, so there is nothing to summarise")
    runs = [np.asarray(process.samples_ms, np.float64) for process in processes]
    raw = all(len(run) for run in runs)
    pooled = np.concatenate(runs)
    invalid, notes = judge_runs(runs, protocol, ()) if raw else _judge_own(processes, protocol)
    states = list(telemetry) or [Telemetry()] * len(processes)
    verdicts = [judge(state, conditions) for state in states]
    slowed = [f"process {at}: {reason}" for at, one in enumerate(verdicts, start=1) for reason in one.invalid_reasons]
    (notes if protocol.may_throttle else invalid).extend((*faults, *slowed))
    course = over_time(np.rint(runs[0] * _NS_PER_MS).astype(np.int64)) if raw and protocol.name == "sustained" else None
    notes += [course.note()] if course else []
    used = energy(states, [_wall_ns(process) for process in processes])
    content = {
        "schema": SCHEMA,
        "target": target,
        "device": device,
        "protocol": protocol.name,
        "processes": len(processes),
        "tool": processes[0].tool,
        "lane": processes[0].lane,
        "size": size,
        "latency_ms": {"inference": figures(pooled)} if raw else {},
        "tool_statistics": [dict(process.own_ms) for process in processes],
        "first_inference_ms": _median(process.first_inference_ms for process in processes),
        "load_ms": _median(process.load_ms for process in processes),
        "peak_memory_mb": max(
            (one.peak_memory_mb for one in processes if one.peak_memory_mb is not None), default=None
        ),
        "energy_mj_per_inference": used["mj_per_inference"],
        "energy": used,
        "throttling_evidence": sorted({kind for verdict in verdicts for kind in verdict.evidence}),
        "spread": spreads(runs) if raw else None,
        "contention": None,
        "valid": not invalid,
        "invalid_reasons": invalid,
        "over_time": course.as_json() if course else None,
        "notes": [
            *notes,
            UNKNOWN,
            *dict.fromkeys(warning for process in processes for warning in process.warnings),
            *dict.fromkeys(note for verdict in verdicts for note in verdict.notes),
        ],
        "facts": [dict(process.facts) for process in processes],
        "histogram": histogram(pooled) if raw else None,
    }
    return unless_emulated(content, conditions.emulated if conditions else None)


def _judge_own(processes: Sequence[ToolTiming], protocol: Protocol) -> tuple[list[str], list[str]]:
    """As `judge_runs`, by what a program without raw samples says of itself."""
    invalid = []
    if len(processes) < protocol.min_processes:
        invalid.append(f"{len(processes)} of at least {protocol.min_processes} processes (protocol {protocol.name})")
    counts = [process.count for process in processes if process.count is not None]
    if counts and min(counts) < protocol.min_count:
        invalid.append(
            f"too short: {min(counts)} of at least {protocol.min_count} inferences a process (protocol {protocol.name})"
        )
    spent_s = [
        process.count * process.own_ms["avg"] / 1e3
        for process in processes
        if process.count and "avg" in process.own_ms
    ]
    if spent_s and min(spent_s) < 0.9 * protocol.min_seconds:
        invalid.append(
            f"too short: {min(spent_s):.2f} of at least {protocol.min_seconds:g} s a process (protocol {protocol.name})"
        )
    return invalid, [f"{processes[0].tool} keeps no raw samples: these are its own statistics"]


def failed(tool: str, why: str, said: str) -> EnvironmentFault:
    """The fault of a program that did not do what it was asked, with the last that it said, as one line."""
    line = " ".join(re.sub(r"\s+", " ", part).strip() for part in said.strip().splitlines()[-2:])[-_SHOWN_CHARACTERS:]
    return EnvironmentFault(f"{tool}: {why}" + (f"; it said last: {line}" if line else "; it said nothing"))


def _wall_ns(process: ToolTiming) -> IntArray:
    """As many equal times as there were inferences."""
    own = process.wall_ms if process.wall_ms is not None else process.own_ms.get("avg")
    each_ms = float(np.mean(process.samples_ms)) if own is None and process.samples_ms else own
    count = len(process.samples_ms) if process.count is None else process.count
    return np.full(max(count, 1), round((each_ms or 0.0) * _NS_PER_MS), np.int64)


def _median(values: Any) -> float | None:
    known = sorted(value for value in values if value is not None)
    return float(known[(len(known) - 1) // 2]) if known else None
