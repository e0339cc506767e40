"""Bounds how long the threads of OpenMP wait awake for each other, in every process that computes with torch.

Between two parallel loops the threads of a pool spin: a few microseconds where nothing else runs, and where another
program holds the core of one of them, all others spin until that program is set aside. Two trainings on one machine so
slow each other by a factor of tens; `benchmarks/shared_machine.py` measures it. OpenMP reads its variables once, when
torch loads it, and child processes inherit them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping

# About 20 microseconds, by the OpenMP that reads it: GNU's (in torch for Linux) counts turns of its waiting loop, about
# 100,000 a millisecond and 300,000 by default; Intel's and LLVM's waits 200 ms by default, and knows `us` since 2023.
_BOUNDS = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "20us"}
_CHOICES = ("OMP_WAIT_POLICY", "KMP_LIBRARY", *_BOUNDS)  # a user who has set one of them has decided
_OURS = "EDGEKD_OPENMP"  # names what edgekd has set, to the processes that inherit it, too


def bound_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the variables, unless the user has; before torch is imported."""
    if any(name in environment for name in _CHOICES):
        return
    environment.update(_BOUNDS)
    environment[_OURS] = ",".join(_BOUNDS)


def without_bounds(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment as it was before: for programs whose latency is measured, as users run them."""
    ours = {_OURS, *environment.get(_OURS, "").split(",")}
    return {name: value for name, value in environment.items() if name not in ours}
