"""Latency figures from raw, ordered samples. One definition of everything; no sample is ever dropped.

Percentile p of n samples is the nearest rank: the ceil(p n / 100)-th smallest, always a time that was measured. A
percentile is given only if n supports it with 99 % confidence: the early-stopping minima of MLPerf Inference
(p90: 64, p95: 130, p99: 662 samples); otherwise it is None. Samples of several processes are pooled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgekd.measure.contention import MAX_WAITED
from edgekd.types import IntArray

Phase = Literal["pre", "inference", "post", "end_to_end"]
PHASES: tuple[Phase, ...] = ("pre", "inference", "post", "end_to_end")
LEAST_COUNT = {50: 1, 90: 64, 95: 130, 99: 662}
MAX_DISAGREEMENT = 0.05  # of the processes' medians, relative
SPREAD_OF = (50, 90)
_NS_PER_MS = 1e6
_HISTOGRAM_BINS = 60
_DRIFT_BLOCKS = 100

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """How a model is timed, and what a run must have to be valid.

    Attributes:
        name: as in the recipe.
        min_processes: fresh processes.
        warmup_seconds: least warm-up of a process.
        min_count: samples per process.
        min_seconds: timed seconds per process; end-to-end times must sum to at least 90 % of it (the rest is the
            loop's own).
        needs_steady: whether a warm-up that never became steady makes the run invalid, or is only noted.
        may_throttle: a device that slows down is what the run is to show, and not a fault.
        max_waited: share of the time that a process may wait for a core that others have.
    """

    name: str
    min_processes: int
    warmup_seconds: float
    min_count: int
    min_seconds: float
    needs_steady: bool
    may_throttle: bool = False
    max_waited: float = MAX_WAITED

    def at_its_shortest(self) -> Protocol:
        """One process that does each thing once: for what shows that it runs, and is not measured."""
        return replace(self, min_processes=1, warmup_seconds=0.01, min_count=1, min_seconds=0.001)


PROTOCOLS = {
    "quick": Protocol("quick", 3, warmup_seconds=2, min_count=128, min_seconds=3.4, needs_steady=False),
    "full": Protocol("full", 3, warmup_seconds=2, min_count=1024, min_seconds=60, needs_steady=True),
}


def protocol_of(name: str, sustained_minutes: float) -> Protocol:
    """A protocol by its name; `sustained` is one long process, which shows what heat leaves of the speed."""
    if name != "sustained":
        return PROTOCOLS[name]
    return Protocol(
        name, 1, warmup_seconds=2, min_count=64, min_seconds=60 * sustained_minutes, needs_steady=False,
        may_throttle=True,
    )  # fmt: skip


@dataclass(frozen=True)
class LatencySummary:
    """Figures of one model on one device.

    Attributes:
        latency_ms: phase -> p50, p90, p95, p99 (None where the count does not support it), mean, mad (median absolute
            deviation from p50), min, max in ms, and count.
        cv: standard deviation over mean of the end-to-end time.
        drift_percent: robust slope over a process's run, in percent of its median; of the process that drifts most.
        process_p50_ms: end-to-end median per process.
        spread: how far the processes lie apart, relative to the least of them: of their `p50`, and of their `p90` where
            each supports one. A difference below it means nothing.
        histogram: `edges_ms` (bins + 1) and `counts` of the end-to-end time.
        invalid_reasons: why the figures must not be used; empty if valid.
        notes: what a reader should know of a valid run.
    """

    latency_ms: dict[str, dict[str, float | int | None]]
    cv: float
    drift_percent: float
    process_p50_ms: tuple[float, ...]
    spread: dict[str, float | None]
    histogram: dict[str, list[float] | list[int]]
    invalid_reasons: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Whether the figures may be used."""
        return not self.invalid_reasons


def percentile(samples: npt.ArrayLike, percent: int) -> float | None:
    """Nearest-rank percentile, or None where the count does not support it."""
    ordered = np.sort(np.asarray(samples, np.float64))
    if len(ordered) < LEAST_COUNT.get(percent, 1):
        return None
    return float(ordered[nearest_rank(len(ordered), percent)])


def spreads(runs_ms: Sequence[Samples]) -> dict[str, float | None]:
    """`spread` of the processes' p50 and p90."""
    return {f"p{percent}": spread([percentile(run, percent) for run in runs_ms]) for percent in SPREAD_OF}


def spread(figures: Sequence[float | None]) -> float | None:
    """How far the figures of several processes lie apart, relative to the least; None of what is not known of all."""
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures) or min(known, default=0.0) <= 0:
        return None
    return (max(known) - min(known)) / min(known)


def nearest_rank(count: int, percent: int) -> int:
    """Index of a percentile among `count` sorted samples: ceil(percent count / 100) - 1, in integers, so exactly."""
    return max(-(-percent * count // 100), 1) - 1


def summarise(
    processes: Sequence[Mapping[Phase, IntArray]],
    protocol: Protocol,
    steady: Sequence[bool] = (),
) -> LatencySummary:
    """Figures of the samples of one or more fresh processes.

    Args:
        processes: per process, phase -> (N,) int64 ns in the order taken; the same N for all phases.
        protocol: what makes the run valid.
        steady: per process, whether the warm-up became steady; empty if unknown.

    Raises:
        ValueError: a process without samples, or with phases of different lengths.
    """
    for number, samples in enumerate(processes, start=1):
        lengths = {len(samples[phase]) for phase in PHASES}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(
                f"process {number} must have the same number of samples, at least 1, of {', '.join(PHASES)}"
            )
    if not processes:
        raise ValueError("no process, no latency")
    runs_ms = [np.asarray(samples["end_to_end"], np.float64) / _NS_PER_MS for samples in processes]
    pooled = {phase: np.concatenate([samples[phase] for samples in processes]) / _NS_PER_MS for phase in PHASES}
    medians = tuple(_median(run) for run in runs_ms)
    whole = pooled["end_to_end"]
    invalid, notes = judge_runs(runs_ms, protocol, steady)
    return LatencySummary(
        latency_ms={phase: figures(pooled[phase]) for phase in PHASES},
        cv=float(whole.std(ddof=1) / whole.mean()) if len(whole) > 1 and whole.mean() > 0 else 0.0,
        drift_percent=max((drift_percent(run) for run in runs_ms), key=abs),
        process_p50_ms=medians,
        spread=spreads(runs_ms),
        histogram=histogram(whole),
        invalid_reasons=tuple(invalid),
        notes=tuple(notes),
    )


def drift_percent(run_ms: npt.ArrayLike) -> float:
    """How much a run slowed down (positive) or sped up from its first to its last sample, in percent of its median.

    Theil-Sen slope over the medians of up to 100 consecutive blocks, so that single outliers have no say.
    """
    run = np.asarray(run_ms, np.float64)
    blocks = np.array_split(run, min(len(run), _DRIFT_BLOCKS))
    heights = np.array([_median(block) for block in blocks])
    if len(heights) < 2 or heights.min() <= 0:
        return 0.0
    first, second = np.triu_indices(len(heights), k=1)
    slopes = (heights[second] - heights[first]) / (second - first)
    return float(np.median(slopes) * (len(heights) - 1) / np.median(heights) * 100)


def histogram(samples_ms: Samples) -> dict[str, list[float] | list[int]]:
    """Counts in at most 60 bins: equal ones (Freedman-Diaconis) up to the 99th percentile, then one to the maximum.

    Every sample is counted; a long tail takes one wide bin instead of squeezing the body into another.
    """
    ordered = np.sort(samples_ms)
    low, high, top = ordered[0], ordered[nearest_rank(len(ordered), 99)], ordered[-1]
    if low == top:
        return {"edges_ms": [float(low), float(np.nextafter(top, np.inf))], "counts": [len(ordered)]}
    tail = [top] if top > high > low else []
    high = high if tail else top
    quarters = ordered[nearest_rank(len(ordered), 75)] - ordered[nearest_rank(len(ordered), 25)]
    width = 2 * quarters / len(ordered) ** (1 / 3)
    most = _HISTOGRAM_BINS - len(tail)
    bins = most if width <= 0 else min(max(math.ceil((high - low) / width), 1), most)
    edges = np.append(np.linspace(low, high, bins + 1), tail)
    counts, _ = np.histogram(ordered, edges)
    return {"edges_ms": [float(edge) for edge in edges], "counts": [int(count) for count in counts]}


def figures(samples_ms: Samples) -> dict[str, float | int | None]:
    """The entry of one phase in `latency_ms`, from raw samples."""
    median = _median(samples_ms)
    return {
        **{f"p{percent}": percentile(samples_ms, percent) for percent in LEAST_COUNT},
        "mean": float(samples_ms.mean()),
        "mad": _median(np.abs(samples_ms - median)),
        "min": float(samples_ms.min()),
        "max": float(samples_ms.max()),
        "count": len(samples_ms),
    }


def _median(samples: Samples) -> float:
    return float(np.sort(samples)[nearest_rank(len(samples), 50)])


def judge_runs(runs_ms: Sequence[Samples], protocol: Protocol, steady: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Reasons why runs of processes are invalid, and notes on them."""
    invalid: list[str] = []
    notes: list[str] = []
    if len(runs_ms) < protocol.min_processes:
        invalid.append(f"{len(runs_ms)} of at least {protocol.min_processes} processes (protocol {protocol.name})")
    count = min(len(run) for run in runs_ms)
    if count < protocol.min_count:
        invalid.append(
            f"too short: {count} of at least {protocol.min_count} samples a process (protocol {protocol.name})"
        )
    seconds = min(float(run.sum()) for run in runs_ms) / 1e3
    if seconds < 0.9 * protocol.min_seconds:
        invalid.append(
            f"too short: {seconds:.2f} of at least {protocol.min_seconds:g} s a process (protocol {protocol.name})"
        )
    if unsteady := [str(number) for number, calm in enumerate(steady, start=1) if not calm]:
        reason = f"the warm-up never became steady (process {', '.join(unsteady)} of {len(steady)})"
        (invalid if protocol.needs_steady else notes).append(reason)
    medians = [_median(run) for run in runs_ms]
    apart = spread(medians) or 0.0
    if apart > MAX_DISAGREEMENT:
        notes.append(
            f"the processes' medians differ by {apart:.1%} ({min(medians):.3g} to {max(medians):.3g} ms); "
            "differences below that mean nothing here"
        )
    return invalid, notes
