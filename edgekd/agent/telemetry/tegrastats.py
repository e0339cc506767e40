# SPDX-License-Identifier: Apache-2.0
"""Lines of NVIDIA's `tegrastats`, of JetPack 4 to 7. One line is one moment.

What differs: power with or without its unit, two values or three (only the first, the moment's, is read; the second is
an average since the start, the third is undocumented); clocks after `@` alone, in brackets, one per cluster, or missing
without root; temperatures with upper- or lower-case names; a date in front.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional

from .ina3221 import NOT_CONNECTED
from .sources import SENSOR_OFF_C

_POWER = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+(?:mW)?)?(?=\s|$)")
_TEMPERATURE = re.compile(r"([\w-]+)@(-?\d+(?:\.\d+)?)C\b")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
_GPU = re.compile(r"\bGR3D(?:_FREQ)? (?:(\d+)%)?(?:@(?:\[([\d,]*)\]|(\d+)))?")
_MEMORY_CLOCK = re.compile(r"\bEMC(?:_FREQ)? (?:\d+%)?@(\d+)")
_MEMORY = re.compile(r"\bRAM (\d+)/(\d+)MB")


class Core(NamedTuple):
    """One core: load in percent and clock in MHz; both None while it is off, the clock also where it is not told."""

    load_percent: Optional[int]
    clock_mhz: Optional[int]


class Tegrastats(NamedTuple):
    """One moment. What the line does not say is None or missing, never zero.

    Attributes:
        power_mw: rail -> power now; rails that are not connected are left out.
        temperatures_c: sensor -> temperature; sensors that are off are left out.
        cores: in their order.
        gpu_load_percent: of all clusters together.
        gpu_clocks_mhz: one per cluster; empty if not told (no root).
        memory_clock_mhz: of the external memory.
        memory_used_mb, memory_total_mb: in the tool's own megabytes.
    """

    power_mw: Dict[str, int]
    temperatures_c: Dict[str, float]
    cores: List[Core]
    gpu_load_percent: Optional[int]
    gpu_clocks_mhz: List[int]
    memory_clock_mhz: Optional[int]
    memory_used_mb: Optional[int]
    memory_total_mb: Optional[int]


def parse(line: str) -> Optional[Tegrastats]:
    """One line; None if it is none of tegrastats' (a warning, half a line)."""
    memory = _MEMORY.search(line)
    if memory is None:
        return None
    gpu, memory_clock = _GPU.search(line), _MEMORY_CLOCK.search(line)
    clocks = (gpu.group(2) or gpu.group(3) or "") if gpu else ""
    temperatures = {name: float(degrees) for name, degrees in _TEMPERATURE.findall(line)}
    return Tegrastats(
        {name: int(power) for name, power in _POWER.findall(line) if name != NOT_CONNECTED},
        {name: degrees for name, degrees in temperatures.items() if degrees > SENSOR_OFF_C},
        _cores(line),
        int(gpu.group(1)) if gpu and gpu.group(1) else None,
        [int(clock) for clock in clocks.split(",") if clock],
        int(memory_clock.group(1)) if memory_clock else None,
        int(memory.group(1)),
        int(memory.group(2)),
    )


def _cores(line: str) -> List[Core]:
    found = _CPU.search(line)
    return [_core(entry) for entry in found.group(1).split(",")] if found else []


def _core(entry: str) -> Core:
    found = _CORE.fullmatch(entry.strip())
    if found is None:
        return Core(None, None)
    return Core(int(found.group(1)), int(found.group(2)) if found.group(2) else None)
