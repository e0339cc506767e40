"""LiteRT's `benchmark_model`. It keeps no raw samples, and prints neither p90 nor p99."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath

from edgekd.devices.tools.timing import ToolTiming, failed

TOOL = "benchmark_model"

_NUMBER = r"[\d.]+(?:[eE][+-]?\d+)?"
_COUNT = re.compile(rf"\bcount=(\d+) first={_NUMBER} curr={_NUMBER}((?: \w+={_NUMBER})+)")
_STATISTIC = re.compile(rf"(\w+)=({_NUMBER})")
_RESULT = re.compile(
    rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): ({_NUMBER})"
)
_MEMORY = re.compile(rf"footprint[^\n]*\(MB\): init={_NUMBER} overall=({_NUMBER})")
_DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate \(([^)]*)\)")
_FELL_BACK = re.compile(
    r"will not be executed by the delegate|[Ff]ailed to (?:apply|create)[^\n]*delegate|[Ff]alling back to CPU"
)
_US_PER_MS = 1e3


def command(
    model: PurePosixPath,
    *,
    threads: int,
    seconds: float,
    count: int,
    warmup_seconds: float = 2.0,
    gpu: bool = False,
    program: str = "./benchmark_model",
) -> list[str]:
    """The command that times a model; what it counts and for how long both hold, as least values.

    Profiling of operations and of memory is off: both disturb the times.
    """
    return [
        program, f"--graph={model}", f"--num_threads={threads}", f"--warmup_runs={1}",
        f"--warmup_min_secs={warmup_seconds:g}", f"--num_runs={count}", f"--min_secs={seconds:g}",
        f"--max_secs={math.ceil(10 * (seconds + warmup_seconds))}", *(["--use_gpu=true"] if gpu else []),
    ]  # fmt: skip


def timing(said: str, *, gpu: bool = False) -> ToolTiming:
    """Read what the program said: the last line of statistics (the first is of the warm-up), and its result.

    Raises:
        EnvironmentFault: no result; or the GPU was asked for and did not take the model.
    """
    statistics, result = _COUNT.findall(said), _RESULT.search(said)
    if not statistics or result is None:
        raise failed(TOOL, "it ended without a result", said)
    delegated = [(int(taken), int(all_of), name) for taken, all_of, name in _DELEGATED.findall(said)]
    if gpu and (_FELL_BACK.search(said) or not any("gpu" in name.lower() for _, _, name in delegated)):
        raise failed(TOOL, "asked for the GPU, but the model ran on the CPU; export a target that the GPU takes", said)
    count, rest = statistics[-1]
    own = {name: float(value) / _US_PER_MS for name, value in _STATISTIC.findall(rest)}
    memory = _MEMORY.findall(said)
    load_us, first_us, mean_us = (float(part) for part in result.groups())
    return ToolTiming(
        tool=TOOL,
        lane="inference",
        own_ms={**own, "avg": mean_us / _US_PER_MS},
        load_ms=load_us / _US_PER_MS,
        first_inference_ms=first_us / _US_PER_MS,
        peak_memory_mb=float(memory[-1]) if memory else None,
        count=int(count),
        facts={
            "delegated": [{"nodes": taken, "of": all_of, "delegate": name} for taken, all_of, name in delegated],
        },
    )
