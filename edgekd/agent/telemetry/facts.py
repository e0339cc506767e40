# SPDX-License-Identifier: Apache-2.0
"""What a device says about itself and what does not change during a run, and what this process has used."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from .emulation import emulation
from .files import lines, text

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
)


def facts(root: Path = Path("/")) -> Dict[str, Any]:
    """Machine, system, processor and what gives it away as emulated, the cores and thread variables in force."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "board": text(root / "proc/device-tree/model"),
        "cpu_model": _cpu_model(root),
        "emulated": emulation(root),
        "cores_allowed": _cores_allowed(),
        "cores_online": os.cpu_count(),
        "thread_variables": {name: os.environ.get(name) for name in THREAD_VARIABLES},
    }


def peak_memory_bytes(root: Path = Path("/")) -> Optional[int]:
    """Largest resident memory of this process so far.

    Read from VmHWM where there is one: `ru_maxrss` of a new program starts at the peak of the process that forked it.
    """
    for line in lines(root / "proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu_model(root: Path) -> Optional[str]:
    parts = [line.partition(":") for line in lines(root / "proc/cpuinfo")]
    fields = {name.strip(): value.strip() for name, _, value in parts}
    return fields.get("model name") or fields.get("Model") or fields.get("Hardware") or fields.get("CPU part")


def _cores_allowed() -> Optional[List[int]]:
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else None
