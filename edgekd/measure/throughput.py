"""Throughput from raw completions: images per second of several streams that work at once, and latency meanwhile.

What ended within the window counts, whole batches alone, by the wall clock; what was under way when it closed does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import EnvironmentFault
from edgekd.measure import contention
from edgekd.measure.energy import energy
from edgekd.measure.latency import MAX_DISAGREEMENT, Protocol, drift_percent, figures, spread
from edgekd.measure.latency_events import Events, conditions_of, last, median_of, numbered
from edgekd.measure.telemetry import telemetry_of
from edgekd.measure.throttling import Conditions, judge
from edgekd.measure.withheld import unless_emulated
from edgekd.types import IntArray

_NS_PER_S, _NS_PER_MS, _BYTES_PER_MB = 1e9, 1e6, 1e6
_LEAST_SHARE = 0.5  # of an equal share of the work; a stream with less was starved


@dataclass(frozen=True)
class Window:
    """What the streams of one process completed between its opening, at 0, and its end.

    Attributes:
        length_ns: of the window.
        stream, started_ns, ended_ns: (N,) per inference, in the order in which they ended.
    """

    length_ns: int
    stream: IntArray
    started_ns: IntArray
    ended_ns: IntArray

    @property
    def seconds(self) -> float:
        """Wall clock."""
        return self.length_ns / _NS_PER_S

    @property
    def duration_ms(self) -> npt.NDArray[np.float64]:
        """(N,) from frame to detections, while the other streams work."""
        return (self.ended_ns - self.started_ns) / _NS_PER_MS

    def by_second(self) -> list[int]:
        """Inferences that ended in each whole second."""
        counts, _ = np.histogram(self.ended_ns, np.arange(int(self.seconds) + 1) * _NS_PER_S)
        return [int(count) for count in counts]


def summarise_throughput(
    events: Sequence[Events],
    *,
    protocol: Protocol,
    target: str,
    device: str,
    conditions: Conditions | None = None,
    single_stream_per_second: float | None = None,
) -> dict[str, Any]:
    """One entry of `throughput` in `profile/<target>@<device>.json`.

    Args:
        events: per process, the agent's events in order.
        protocol: what makes the run valid: processes, inferences and seconds of each.
        target, device: what was measured, and where.
        conditions: what the device has to keep.
        single_stream_per_second: images per second of the single stream in the same session; None: there is no ratio.

    Raises:
        EnvironmentFault: a process reported an error, or no completions.
    """
    where = f"throughput {target}@{device}"
    if not events:
        raise EnvironmentFault(f"{where}: no process was run, so there is nothing to summarise")
    windows = [window_of(process, f"{where}: process {number}") for number, process in enumerate(events, start=1)]
    environment = last(events[0], "environment")
    batch = int(environment["input"]["shape"][0])
    states = [telemetry_of(process) for process in events]
    verdicts = [judge(state, conditions_of(conditions, environment)) for state in states]
    slowed = numbered(verdicts, events)
    invalid, notes = _judge(windows, events, protocol)
    shares = [contention.contention_of(process) for process in events]
    busy, beside = contention.judge(shares, protocol.max_waited)
    invalid = [*busy, *invalid, *([] if protocol.may_throttle else slowed)]
    rates = [batch * len(window.ended_ns) / window.seconds for window in windows]
    rate = batch * sum(len(window.ended_ns) for window in windows) / sum(window.seconds for window in windows)
    peaks = [last(process, "memory").get("peak_memory_bytes") for process in events]
    intervals_ns = [np.full(len(window.ended_ns), window.length_ns / len(window.ended_ns)) for window in windows]
    used = energy(states, intervals_ns)
    entry = {
        "streams": int(environment["streams"]),
        "batch": batch,
        "threads": environment.get("threads"),
        "protocol": protocol.name,
        "processes": len(events),
        "images_per_second": rate,
        "process_images_per_second": rates,
        "spread": spread(rates),
        "ratio_to_single_stream": None if single_stream_per_second is None else rate / single_stream_per_second,
        "latency_ms": figures(np.concatenate([window.duration_ms for window in windows])),
        "images_by_second": [[batch * count for count in window.by_second()] for window in windows],
        "cv_by_second": _cv([count for window in windows for count in window.by_second()]),
        "drift_percent": max((drift_percent(window.duration_ms) for window in windows), key=abs),
        "load_ms": median_of([last(process, "load").get("load_ms") for process in events]),
        "peak_memory_mb": max((peak / _BYTES_PER_MB for peak in peaks if peak is not None), default=None),
        "energy_mj_per_image": None if used["mj_per_inference"] is None else used["mj_per_inference"] / batch,
        "contention": [share.as_json() for share in shares],
        "valid": not invalid,
        "invalid_reasons": invalid,
        "notes": [*(slowed if protocol.may_throttle else []), *notes, *beside],
        "environment": environment,
    }
    shown = unless_emulated(entry, conditions.emulated if conditions else None)
    return {key: value for key, value in shown.items() if key != "environment"}


def window_of(process: Events, where: str) -> Window:
    """The completions of one process that count.

    Raises:
        EnvironmentFault: an error event, no window, or nothing that ended within it.
    """
    for event in process:
        if event.get("event") == "error":
            raise EnvironmentFault(f"{where}: {event.get('kind', 'error')}: {event.get('message', 'no message')}")
    chunks = [event for event in process if event.get("event") == "completions"]
    columns = [
        np.array([value for chunk in chunks for value in chunk[name]], np.int64)
        for name in ("stream", "started_ns", "ended_ns")
    ]
    length_ns = int(last(process, "window").get("window_ns", 0))
    ended = columns[-1]
    order = np.argsort(ended, kind="stable")
    order = order[(ended[order] > 0) & (ended[order] <= length_ns)]
    if not len(order):
        raise EnvironmentFault(f"{where}: the agent gave no inference that ended in time; measure it again")
    return Window(length_ns, *(column[order] for column in columns))


def best(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The valid one with the most images per second."""
    return max((one for one in entries if one["valid"]), key=lambda one: one["images_per_second"], default=None)


def _judge(windows: Sequence[Window], events: Sequence[Events], protocol: Protocol) -> tuple[list[str], list[str]]:
    """Reasons why the figures are invalid, and notes on them."""
    invalid: list[str] = []
    notes: list[str] = []
    rule = f"(protocol {protocol.name})"
    if len(windows) < protocol.min_processes:
        invalid.append(f"{len(windows)} of at least {protocol.min_processes} processes {rule}")
    count, seconds = min(len(window.ended_ns) for window in windows), min(window.seconds for window in windows)
    if count < protocol.min_count:
        invalid.append(f"too short: {count} of at least {protocol.min_count} inferences a process {rule}")
    if seconds < protocol.min_seconds:
        invalid.append(f"too short: {seconds:.2f} of at least {protocol.min_seconds:g} s a process {rule}")
    unsteady = [str(n) for n, process in enumerate(events, start=1) if not last(process, "warmup").get("steady", True)]
    if unsteady:
        reason = f"the warm-up never became steady (process {', '.join(unsteady)} of {len(events)})"
        (invalid if protocol.needs_steady else notes).append(reason)
    rates = [len(window.ended_ns) / window.seconds for window in windows]
    if (apart := spread(rates) or 0.0) > MAX_DISAGREEMENT:
        notes.append(f"the processes differ by {apart:.1%}; differences below that mean nothing here")
    streams = int(last(events[0], "environment")["streams"])
    shares = [float(np.bincount(window.stream, minlength=streams).min() / len(window.stream)) for window in windows]
    if min(shares) * streams < _LEAST_SHARE:
        notes.append(f"a stream got {min(shares):.0%} of the work, where {1 / streams:.0%} would be its share")
    return invalid, notes


def _cv(counts: Sequence[int]) -> float | None:
    """Standard deviation over mean; None of less than two seconds."""
    return float(np.std(counts, ddof=1) / np.mean(counts)) if len(counts) > 1 and any(counts) else None
