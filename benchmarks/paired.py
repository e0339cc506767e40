"""What the speed benchmarks share: the rounds of `edgekd.measure.rounds`, the cores, and what a figure is read with."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from edgekd.measure import rounds as measured  # noqa: E402
from edgekd.measure.rounds import Seconds, extra, ratio  # noqa: E402

__all__ = ["ROOT", "Seconds", "environment", "extra", "interleave", "ratio", "say", "seconds_of", "use_cores"]


def interleave(variants: Mapping[str, Callable[[], float]], rounds: int, seed: int = 0) -> dict[str, Seconds]:
    """Call each variant once per round, in a random order, and say what each round gave."""

    def told(number: int, times: Mapping[str, Seconds]) -> None:
        latest = ", ".join(f"{name} {seconds[-1]:.3f} s" for name, seconds in times.items())
        say(f"round {number}/{rounds}: {latest}")

    return measured.interleave(variants, rounds, seed, told)


def seconds_of(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def use_cores(threads: int, pin: bool) -> None:
    """Set the size of every thread pool; with `pin`, keep this process and its children on that many cores.

    Call it before anything else is imported: the pools read their variables only once.
    """
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    os.environ.update(dict.fromkeys(pools, str(threads)))
    if pin:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def environment(*packages: str) -> dict[str, Any]:
    """Machine, load and versions: what a figure cannot be read without."""
    return {
        "python": platform.python_version(), "machine": platform.machine(), "processor": _processor(),
        "cores_allowed": sorted(os.sched_getaffinity(0)), "load_1min": round(os.getloadavg()[0], 2),
        **{package: version(package) for package in packages},
    }  # fmt: skip


def say(text: str) -> None:
    """Progress, on standard error: standard output is one JSON object."""
    print(text, file=sys.stderr, flush=True)


def _processor() -> str | None:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
