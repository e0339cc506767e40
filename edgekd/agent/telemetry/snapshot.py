# SPDX-License-Identifier: Apache-2.0
"""The state of the device at one moment. What it does not tell is null, and `absent` says why; nothing is ever zero for
want of a sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from .commands import Say, say, told
from .files import integer, lines, text
from .sources import GROUPS, Sources, policies, throttle_counts


def snapshot(root: Path = Path("/"), ask: Optional[Say] = say) -> Dict[str, Any]:
    """Governors, frequencies and their limits, temperatures, signs of throttling, power, load, memory, power mode.

    Args:
        root: of procfs and sysfs.
        ask: runs a program of the board; None runs none.
    """
    absent: Dict[str, str] = {}

    def told_or_absent(key: str, value: Any, why: str) -> Any:
        if value is None:
            absent[key] = why
        return value

    sources = Sources(root)
    readings = sources.readings()
    sources.close()
    state: Dict[str, Any] = {group: told_or_absent(group, readings.get(group), why) for group, why in GROUPS.items()}
    for key, value, why in (
        ("governors", _governors(root), "no cpufreq in sysfs"),
        ("min_frequencies_khz", _limits(root, "scaling_min_freq"), "no cpufreq in sysfs"),
        ("device_limits_hz", _device_limits(root), "no devfreq in sysfs"),
        ("throttle_counts", throttle_counts(root), "no thermal_throttle in sysfs (it is of x86)"),
        ("load_1min", _load(root), "no /proc/loadavg"),
        ("memory_total_bytes", _meminfo(root, "MemTotal"), "no /proc/meminfo"),
        ("memory_available_bytes", _meminfo(root, "MemAvailable"), "no MemAvailable in /proc/meminfo"),
    ):
        state[key] = told_or_absent(key, None if value == {} else value, why)
    said, unsaid = told(ask) if ask else ({}, {})
    return {**state, **said, "absent": {**absent, **unsaid}}


def _governors(root: Path) -> Dict[str, Optional[str]]:
    return {policy.name: text(policy / "scaling_governor") for policy in policies(root)}


def _limits(root: Path, name: str) -> Dict[str, Optional[int]]:
    return {policy.name: integer(policy / name) for policy in policies(root)}


def _device_limits(root: Path) -> Dict[str, Dict[str, Optional[int]]]:
    devices = sorted((root / "sys/class/devfreq").glob("*"))
    return {device.name: {kind: integer(device / f"{kind}_freq") for kind in ("min", "max")} for device in devices}


def _load(root: Path) -> Optional[float]:
    words = (text(root / "proc/loadavg") or "").split()
    return float(words[0]) if words else None


def _meminfo(root: Path, field: str) -> Optional[int]:
    for line in lines(root / "proc/meminfo"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None
