"""What `tegrastats` printed on a device while a timing program ran there, as telemetry like the agent's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from edgekd.agent.telemetry.tegrastats import Tegrastats, parse
from edgekd.measure.telemetry import Telemetry

INTERVAL_MS = 500
_NS_PER_MS = 1_000_000
_NO_READING = re.compile(r"[0-9]{16}")


def command(interval_ms: int = INTERVAL_MS) -> list[str]:
    """The command that prints until it is ended; without root it leaves out the clocks of GPU and memory."""
    return ["tegrastats", "--interval", str(interval_ms)]


def _moment(line: str) -> Tegrastats | None:
    try:
        return None if _NO_READING.search(line) else parse(line)
    except ValueError:
        return None


def telemetry_of_log(said: str, interval_ms: int = INTERVAL_MS) -> Telemetry:
    """Rails, temperatures and clocks of the GPU; lines that are none of tegrastats' are left out.

    The lines have no time of their own that is finer than a second, so they are taken as evenly spaced.
    """
    moments = [moment for moment in map(_moment, said.splitlines()) if moment is not None]
    columns: dict[str, dict[str, list[float]]] = {}
    for place, moment in enumerate(moments):
        clocks = {f"cluster{number}": float(clock) for number, clock in enumerate(moment.gpu_clocks_mhz)}
        told: dict[str, Mapping[str, float]] = {
            "power_mw": moment.power_mw,
            "temperatures_c": moment.temperatures_c,
            "gpu_clocks_mhz": clocks,
        }
        for group, values in told.items():
            for name, value in values.items():
                column = columns.setdefault(group, {}).setdefault(name, [np.nan] * len(moments))
                column[place] = float(value)
    return Telemetry(
        time_ns=np.arange(len(moments), dtype=np.int64) * interval_ms * _NS_PER_MS,
        columns={group: {name: np.array(column) for name, column in names.items()} for group, names in columns.items()},
    )
