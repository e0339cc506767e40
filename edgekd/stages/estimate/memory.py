"""Memory that a training takes: of this process and its helpers, and of a GPU."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from pathlib import Path
from typing import Any


def resident_bytes() -> int:
    """The most that this process has held, and what those that load images hold now (what they share counts once)."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return most + sum(_held(child.pid) for child in multiprocessing.active_children())


def start_gpu_peak(device: Any) -> None:
    """Count from now on."""
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def gpu_peak_bytes(device: Any) -> int | None:
    """The most that torch has taken of the GPU since then; None on a CPU."""
    import torch

    return int(torch.cuda.max_memory_reserved(device)) if device.type == "cuda" else None


def gpu_total_bytes(device: Any) -> int | None:
    """What the GPU has; None on a CPU."""
    import torch

    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


def _held(pid: int | None) -> int:
    """A process's share of memory (PSS); 0 where Linux's file does not say it."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
