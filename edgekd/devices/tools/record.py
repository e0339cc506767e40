"""From the events of a driven timing program to the content of `profile/<target>@<device>.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgekd.devices.tools.tegrastats_log import telemetry_of_log
from edgekd.devices.tools.timing import ToolTiming, summarise_tool
from edgekd.measure.latency import Protocol
from edgekd.measure.telemetry import Telemetry, hottest_c, is_thermometer
from edgekd.measure.throttling import Conditions
from edgekd.measure.withheld import without_figures

Event = Mapping[str, Any]
WHOLE = "end_to_end"  # of trtexec's lanes the one with transfers, nearest to what an application sees
_NS_PER_MS = 1e6


def summarise_lanes(
    lanes: Mapping[str, Sequence[Sequence[Event]]],
    *,
    protocol: Protocol,
    target: str,
    device: str,
    conditions: Conditions,
    size: str | None = None,
) -> dict[str, Any]:
    """The summary of the lane that stands for the artifact, with all of them under `lanes`.

    Args:
        lanes: lane -> the events of each process, as `drive.profile_by_tool` gives them.
        protocol, target, device, size: as in `summarise_tool`.
        conditions: what the device has to keep.
    """
    found = {
        lane: _lane(processes, protocol=protocol, target=target, device=device, conditions=conditions, size=size)
        for lane, processes in lanes.items()
    }
    main = found[WHOLE] if WHOLE in found else next(iter(found.values()))
    return {**main, "lanes": [one if one["valid"] else without_figures(one) for one in found.values()]}


def _lane(processes: Sequence[Sequence[Event]], *, conditions: Conditions, **about: Any) -> dict[str, Any]:
    events = [next(event for event in process if event["event"] == "tool") for process in processes]
    timings = [_timing(event["timing"]) for event in events]
    states = [_telemetry(event, timing) for event, timing in zip(events, timings, strict=True)]
    told = [
        degrees
        for state in states
        for name, degrees in state.values("temperatures_c", before=True)
        if is_thermometer(name)
    ]
    environment = {**events[0]["environment"], "telemetry": events[0]["before"], "telemetry_after": events[0]["after"]}
    summary = summarise_tool(timings, telemetry=states, conditions=conditions, faults=_too_hot(processes), **about)
    return {
        **summary,
        "temperature_c": {"start": hottest_c(states[0].before.get("temperatures_c")), "max": max(told, default=None)},
        "environment": environment,
    }


def _too_hot(processes: Sequence[Sequence[Event]]) -> list[str]:
    return [
        f"process {number}: it began too hot: {event['reason']}"
        for number, process in enumerate(processes, start=1)
        for event in process
        if event["event"] == "thermal_gate" and not event["passed"]
    ]


def _timing(told: Mapping[str, Any]) -> ToolTiming:
    return ToolTiming(**{**told, "samples_ms": tuple(told["samples_ms"]), "warnings": tuple(told["warnings"])})


def _telemetry(event: Event, timing: ToolTiming) -> Telemetry:
    """What was read beside the timed inferences, which come last: loading and warming up are cut off."""
    log = telemetry_of_log(event["power_log"])
    wall_ms = sum(timing.samples_ms) if timing.wall_ms is None else timing.wall_ms * len(timing.samples_ms)
    kept = log.time_ns >= log.time_ns[-1] - wall_ms * _NS_PER_MS if len(log.time_ns) else np.empty(0, bool)
    columns = {group: {name: column[kept] for name, column in names.items()} for group, names in log.columns.items()}
    return Telemetry(event["before"], event["after"], log.time_ns[kept], columns)
