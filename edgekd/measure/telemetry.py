"""The state of a device before, during and after a timed process, put together from the agent's events.

Before and after are snapshots as `edgekd.agent.telemetry.snapshot` gives them; during is a course of columns. What was
not told is missing, None or NaN, never zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.types import IntArray

Column = npt.NDArray[np.float64]
Snapshot = Mapping[str, Any]

# Sensors that show a constant (100 degrees on several Jetsons) and say nothing about heat.
_CONSTANT = ("pmic",)


@dataclass(frozen=True)
class Telemetry:
    """Of one process.

    Attributes:
        before, after: snapshots; empty if there is none.
        time_ns: (N,) when the columns were read, on the clock of the latency samples.
        columns: group -> name -> (N,) values, NaN where there was none, e.g. `columns["power_mw"]["VDD_IN"]`.
    """

    before: Snapshot = field(default_factory=dict)
    after: Snapshot = field(default_factory=dict)
    time_ns: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    columns: Mapping[str, Mapping[str, Column]] = field(default_factory=dict)

    def values(self, group: str, *, before: bool = False) -> Iterator[tuple[str, float]]:
        """(name, value) of a group, during and after the process, and before it if asked; numbers alone."""
        for name, column in self.columns.get(group, {}).items():
            yield from ((name, float(value)) for value in column[~np.isnan(column)])
        for snapshot in (self.before, self.after) if before else (self.after,):
            told = snapshot.get(group) or {}
            yield from ((name, float(value)) for name, value in told.items() if value is not None)


def telemetry_of(process: Sequence[Mapping[str, Any]]) -> Telemetry:
    """From the events of one process."""
    told = [event for event in process if event.get("event") == "telemetry"]
    chunks = [event["samples"] for event in told if event.get("samples")]
    environments = [event for event in process if event.get("event") == "environment"]
    snapshots = [event["telemetry"] for event in told if event.get("telemetry")]
    times = [np.asarray(chunk["time_ns"], np.int64) for chunk in chunks]
    return Telemetry(
        before=(environments[-1].get("telemetry") or {}) if environments else {},
        after=snapshots[-1] if snapshots else {},
        time_ns=np.concatenate(times) if times else np.empty(0, np.int64),
        columns=_columns(chunks),
    )


def hottest_c(temperatures_c: Mapping[str, float | None] | None) -> float | None:
    """The hottest sensor of a snapshot; None if nothing is known."""
    known = [
        degrees for name, degrees in (temperatures_c or {}).items() if degrees is not None and is_thermometer(name)
    ]
    return max(known, default=None)


def is_thermometer(name: str) -> bool:
    """Whether a sensor follows the temperature."""
    return not any(word in name.lower() for word in _CONSTANT)


def _columns(chunks: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Column]]:
    """Columns of all chunks joined; a name that a chunk does not have is NaN there."""
    names = {
        (group, name): None for chunk in chunks for group, told in chunk.items() if group != "time_ns" for name in told
    }
    joined: dict[str, dict[str, Column]] = {}
    for group, name in names:
        parts = [chunk.get(group, {}).get(name, [None] * len(chunk["time_ns"])) for chunk in chunks]
        joined.setdefault(group, {})[name] = np.array([value for part in parts for value in part], dtype=np.float64)
    return joined
