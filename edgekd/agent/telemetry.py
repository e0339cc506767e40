# SPDX-License-Identifier: Apache-2.0
"""What the device says about itself, from Linux procfs and sysfs. Whatever it does not tell is recorded as null."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def facts(root: Path = Path("/")) -> Dict[str, Any]:
    """What does not change during a run: machine, system, processor, the cores and thread variables in force."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "board": _text(root / "proc/device-tree/model"),
        "cpu_model": _cpu_model(root),
        "cores_allowed": _cores_allowed(),
        "cores_online": os.cpu_count(),
        "thread_variables": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def snapshot(root: Path = Path("/")) -> Dict[str, Any]:
    """What changes: governors, frequencies, load, memory, temperatures."""
    policies = sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
    return {
        "governors": {policy.name: _text(policy / "scaling_governor") for policy in policies} or None,
        "frequencies_khz": {policy.name: _integer(policy / "scaling_cur_freq") for policy in policies} or None,
        "max_frequencies_khz": {policy.name: _integer(policy / "scaling_max_freq") for policy in policies} or None,
        "load_1min": _load(root),
        "memory_total_bytes": _meminfo(root, "MemTotal"),
        "memory_available_bytes": _meminfo(root, "MemAvailable"),
        "temperatures_c": _temperatures(root),
    }


def peak_memory_bytes(root: Path = Path("/")) -> Optional[int]:
    """Largest resident memory of this process so far.

    Read from VmHWM where there is one: `ru_maxrss` of a new program starts at the peak of the process that forked it.
    """
    for line in _lines(root / "proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _text(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00 \n") or None
    except OSError:
        return None


def _lines(path: Path) -> List[str]:
    return (_text(path) or "").splitlines()


def _integer(path: Path) -> Optional[int]:
    try:
        return int(_text(path) or "")
    except ValueError:
        return None


def _cpu_model(root: Path) -> Optional[str]:
    parts = [line.partition(":") for line in _lines(root / "proc/cpuinfo")]
    fields = {name.strip(): value.strip() for name, _, value in parts}
    return fields.get("model name") or fields.get("Model") or fields.get("Hardware") or fields.get("CPU part")


def _cores_allowed() -> Optional[List[int]]:
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else None


def _load(root: Path) -> Optional[float]:
    words = (_text(root / "proc/loadavg") or "").split()
    return float(words[0]) if words else None


def _meminfo(root: Path, field: str) -> Optional[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return None


def _temperatures(root: Path) -> Optional[Dict[str, float]]:
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = _integer(zone / "temp")
        if millidegrees is not None:
            found[zone.name + " " + (_text(zone / "type") or "unknown")] = millidegrees / 1000
    return found or None
