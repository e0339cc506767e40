"""How many cores a process computes on."""

from __future__ import annotations

import os

from edgekd import ranks


def set_threads(threads: int | None) -> int:
    """Set the CPU threads, torch's and those of AP: what the recipe says, else and at most all this process may use."""
    import torch

    count = min(threads or own_cores(), usable_cores())
    os.environ["RAYON_NUM_THREADS"] = str(count)  # read when AP is first computed
    torch.set_num_threads(count)
    return count


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def own_cores() -> int:
    """This process's share of the cores, among those that train together on this machine."""
    return max(1, usable_cores() // ranks.world().local_size)
