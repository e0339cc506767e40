"""ONNX Runtime's `onnxruntime_perf_test`: raw samples in a CSV. Its warm-up is a single run."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath

from edgekd.devices.tools.timing import ToolTiming, failed
from edgekd.errors import EnvironmentFault

TOOL = "onnxruntime_perf_test"

_ROW = re.compile(r"^(.*),([\d.eE+-]+),(\d+),(-?\d+),(\d+)$")
_STATISTIC = re.compile(r"(Min|Max|P\d+) Latency(?: is)?:? ([\d.eE+-]+) ?s", re.IGNORECASE)
_MS_PER_S = 1e3
_BYTES_PER_MB = 1e6


def command(
    model: PurePosixPath,
    result: PurePosixPath,
    *,
    threads: int,
    seconds: float,
    provider: str = "cpu",
    program: str = "./onnxruntime_perf_test",
) -> list[str]:
    """The command that times a model for some seconds on inputs of its own making (`-I`, seed 1).

    The program appends to `result`: give a file that is not there yet.
    """
    return [
        program, "-m", "duration", "-t", str(math.ceil(seconds)), "-e", provider, "-x", str(threads), "-y", "1",
        "-I", "-S", "1", str(model), str(result),
    ]  # fmt: skip


def timing(result: str, said: str = "") -> ToolTiming:
    """Read the CSV and what the program said.

    Raises:
        EnvironmentFault: no rows, rows that do not count up from zero (an older file was there, or one was cut).
    """
    rows = [row for row in map(_ROW.match, result.splitlines()) if row]
    if not rows:
        raise failed(TOOL, "it left no samples", said)
    if [int(row.group(5)) for row in rows] != list(range(len(rows))):
        raise EnvironmentFault(f"{TOOL}: its file holds more than one run, or not all of it; remove it and run again")
    samples = tuple(float(row.group(2)) * _MS_PER_S for row in rows)
    if not all(math.isfinite(sample) and sample > 0 for sample in samples):
        raise EnvironmentFault(f"{TOOL}: its file holds times that are none; run it again")
    peak = max(int(row.group(3)) for row in rows)
    return ToolTiming(
        tool=TOOL,
        lane="inference",
        samples_ms=samples,
        own_ms={name.lower(): float(value) * _MS_PER_S for name, value in _STATISTIC.findall(said)},
        peak_memory_mb=peak / _BYTES_PER_MB if peak else None,
        warnings=(f"{TOOL} warms up with a single run",),
    )
