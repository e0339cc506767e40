"""What the speed benchmarks share: rounds in random order, ratios within a round, and an interval of their median.

A busy or throttled machine changes its speed from minute to minute, so two things are compared only within a round, in
which each is timed once, in random order. The figure is the median of these ratios, between the percentiles of a
bootstrap over rounds.
"""

from __future__ import annotations

import os
import platform
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESAMPLES = 10_000
Seconds = list[float]


def interleave(variants: Mapping[str, Callable[[], float]], rounds: int, seed: int = 0) -> dict[str, Seconds]:
    """Call each variant once per round, in a random order; each returns the seconds that count."""
    order = random.Random(seed)
    times: dict[str, Seconds] = {name: [] for name in variants}
    for number in range(1, rounds + 1):
        for name in order.sample(list(variants), len(variants)):
            times[name].append(variants[name]())
        latest = ", ".join(f"{name} {seconds[-1]:.3f} s" for name, seconds in times.items())
        say(f"round {number}/{rounds}: {latest}")
    return times


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """Of the rounds' ratios."""
    return _median(np.asarray(numerator) / np.asarray(denominator))


def extra(longer: Sequence[float], shorter: Sequence[float], unit: Sequence[float]) -> dict[str, float]:
    """What `longer` takes beyond `shorter`, in parts of `unit`, round by round."""
    return _median((np.asarray(longer) - np.asarray(shorter)) / np.asarray(unit))


def _median(figures: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Median of the rounds' figures, and the 2.5th and 97.5th percentile of that median over resampled rounds."""
    picks = np.random.default_rng(seed).integers(0, len(figures), (RESAMPLES, len(figures)))
    low, high = np.percentile(np.median(figures[picks], axis=1), [2.5, 97.5])
    return {"median": round(float(np.median(figures)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


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
    sys.path.insert(0, str(ROOT))


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
