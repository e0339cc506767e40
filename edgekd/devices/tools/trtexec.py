"""NVIDIA's `trtexec`: timing in lanes, by version of TensorRT.

Its "Latency" is that of a pipeline in which the next inference is enqueued while one runs. The lanes say what they are:
`gpu_compute` is the time on the GPU alone; `end_to_end` is one inference at a time, from the host's input to the host's
output (transfers exposed, nothing enqueued ahead, no CUDA graph); `throughput` is many at once, and no latency.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from edgekd.agent.protocol import AgentError
from edgekd.agent.tensorrt.dialects import dialect_of, numbers
from edgekd.agent.tensorrt.recipe import Recipe
from edgekd.agent.tensorrt.trtexec import PASSED, command, version_in
from edgekd.devices.tools.timing import ToolTiming, failed
from edgekd.errors import EnvironmentFault

Lane = Literal["gpu_compute", "end_to_end", "throughput"]

PROGRAM = "/usr/src/tensorrt/bin/trtexec"
OLDEST, NEW_NAMES, FLIPPED_DEFAULTS = (8, 0), (8, 6), (11,)

# Until 10 each is asked for; from 11 on they are the defaults, and their opposites have to be asked for.
_FLAGS: dict[Lane, dict[str, tuple[str, ...]]] = {
    "gpu_compute": {"asked": ("--useCudaGraph", "--useSpinWait", "--noDataTransfers"), "default": ()},
    "end_to_end": {
        "asked": ("--exposeDMA", "--useSpinWait"),
        "default": ("--exposeDMA", "--includeDataTransfers", "--noCudaGraph"),
    },
    "throughput": {"asked": ("--useCudaGraph", "--useSpinWait", "--noDataTransfers"), "default": ()},
}
_SAMPLE_KEY: dict[Lane, str] = {"gpu_compute": "computeMs", "end_to_end": "latencyMs", "throughput": "computeMs"}
_OLD_PRECISION = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8",)}

_SUMMARY = re.compile(r"\[I\] ([A-Z][\w ]*?): min = ([\d.eE+-]+) ms, max = ([\d.eE+-]+) ms, (.*)")
_STATISTIC = re.compile(r"([a-z]+(?:\(\d+%\))?) = ([\d.eE+-]+) ms")
_THROUGHPUT = re.compile(r"\[I\] Throughput: ([\d.eE+-]+) qps")
_UNSTABLE = re.compile(r"GPU compute time is unstable, with coefficient of variance = ([\d.]+)%")
_ENQUEUE = "may be bound by Enqueue Time"


def build_command(
    version: str, onnx: PurePosixPath, plan: PurePosixPath, recipe: Recipe, cache: PurePosixPath, program: str = PROGRAM
) -> list[str]:
    """The command that builds an engine, for a device on which the agent cannot do it; same flags where it could.

    Raises:
        EnvironmentFault: a version older than 8.0, or one that is not known.
    """
    if _known(version) >= NEW_NAMES:
        try:
            return command(program, dialect_of(version), onnx, plan, recipe, cache)
        except AgentError as error:
            raise EnvironmentFault(error.message) from error
    workspace = [] if recipe.workspace_mb is None else [f"--workspace={recipe.workspace_mb}"]
    dla = [] if recipe.dla_core is None else [f"--useDLACore={recipe.dla_core}"]
    fallback = ["--allowGPUFallback"] if recipe.dla_core is not None and recipe.allow_gpu_fallback else []
    tf32 = [] if recipe.tf32 else ["--noTF32"]
    shapes = recipe.shapes._asdict() if recipe.shapes else {}
    dynamic = [f"--{key}Shapes={recipe.input_name}:{'x'.join(map(str, shape))}" for key, shape in shapes.items()]
    flags = [*_OLD_PRECISION[recipe.precision], *workspace, *tf32, *dynamic, *dla, *fallback]
    return [program, f"--onnx={onnx}", f"--saveEngine={plan}", "--buildOnly", *flags, f"--timingCacheFile={cache}"]


def timing_command(
    version: str,
    plan: PurePosixPath,
    times: PurePosixPath,
    lane: Lane,
    *,
    seconds: float,
    iterations: int,
    warmup_seconds: float = 2.0,
    streams: int = 1,
    input_shape: tuple[str, Sequence[int]] | None = None,
    idle_ms: int = 0,
    dla_core: int | None = None,
    program: str = PROGRAM,
) -> list[str]:
    """The command that times an engine and leaves raw samples in `times`.

    Args:
        version: of TensorRT, e.g. `10.3.0`.
        plan: the engine, on the device.
        times: JSON to write, on the device.
        lane: what to time.
        seconds, iterations: at least; both hold.
        warmup_seconds: before that.
        streams: inferences at once; only `throughput` may have more than one.
        input_shape: name and (B, C, H, W) of an input with a dynamic batch.
        idle_ms: sleep between inferences, as for a camera's rate; the clocks fall meanwhile.
        dla_core: that the engine was built for.
        program: path on the device.

    Raises:
        EnvironmentFault: a version older than 8.0.
        ValueError: several streams in a lane of single ones.
    """
    if streams != 1 and lane != "throughput":
        raise ValueError(f"{streams} streams: only the lane throughput may have several")
    known = _known(version)
    flags = _FLAGS[lane]["default" if known >= FLIPPED_DEFAULTS else "asked"]
    shape = [] if input_shape is None else [f"--shapes={input_shape[0]}:{'x'.join(map(str, input_shape[1]))}"]
    many = [f"--{'infStreams' if known >= NEW_NAMES else 'streams'}={streams}"] if streams != 1 else []
    idle = [f"--idleTime={idle_ms}"] if idle_ms else []
    dla = [] if dla_core is None else [f"--useDLACore={dla_core}"]
    return [
        program, f"--loadEngine={plan}", f"--warmUp={round(warmup_seconds * 1000)}", f"--duration={math.ceil(seconds)}",
        f"--iterations={iterations}", f"--exportTimes={times}", *flags, *shape, *many, *idle, *dla,
    ]  # fmt: skip


def timing(said: str, times: str, lane: Lane) -> ToolTiming:
    """Read what the program said and left.

    Args:
        said: standard output and error.
        times: content of the file of `--exportTimes`.
        lane: as it was asked for.

    Raises:
        EnvironmentFault: its closing line is missing, it says that it failed, or the samples are not whole.
    """
    version = version_in(said)
    tool = f"trtexec {version}" if version else "trtexec"
    if PASSED not in said:
        raise failed(tool, "it did not end with '&&&& PASSED'", errors(said) or said)
    samples = _samples(tool, times, _SAMPLE_KEY[lane])
    found = _THROUGHPUT.search(said)
    throughput_qps = float(found.group(1)) if found else None
    return ToolTiming(
        tool=tool,
        lane=lane,
        samples_ms=tuple(samples),
        own_ms=own_statistics(said),
        wall_ms=1e3 / throughput_qps if throughput_qps else None,
        warnings=tuple(warnings(said)),
        facts={"throughput_qps": throughput_qps},
    )


def own_statistics(said: str) -> dict[str, float]:
    """What the summary says, e.g. `GPU Compute Time median` in ms, by the program's own definitions."""
    found: dict[str, float] = {}
    for name, least, most, rest in _SUMMARY.findall(said):
        found |= {f"{name} min": float(least), f"{name} max": float(most)}
        found |= {f"{name} {statistic}": float(value) for statistic, value in _STATISTIC.findall(rest)}
    return found


def warnings(said: str) -> list[str]:
    """Warnings that speak about the figures."""
    found = [
        f"trtexec: GPU compute time is unstable (coefficient of variation {share} %)"
        for share in _UNSTABLE.findall(said)
    ]
    bound = ["trtexec: may be bound by the host's enqueue time rather than by the GPU"] if _ENQUEUE in said else []
    return [*dict.fromkeys(found), *bound]


def _samples(tool: str, times: str, key: str) -> list[float]:
    try:
        rows: list[Mapping[str, Any]] = json.loads(times)
        samples = [float(row[key]) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise EnvironmentFault(f"{tool}: the file of --exportTimes is not whole ({error}); run it again") from error
    if not samples or not all(math.isfinite(sample) and sample > 0 for sample in samples):
        raise EnvironmentFault(f"{tool}: the file of --exportTimes has no times, or some that are none; run it again")
    return samples


def _known(version: str) -> tuple[int, ...]:
    known = numbers(version)
    if known < OLDEST:
        raise EnvironmentFault(f"TensorRT {version} is older than 8.0; install JetPack 4.6 or later")
    return known


def errors(said: str) -> str:
    """Its lines that tell of an error."""
    return "\n".join(line for line in said.splitlines() if "[E]" in line)
