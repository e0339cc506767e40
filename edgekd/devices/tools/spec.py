"""The `tools:` part of a device's file: which program times the artifacts of a runtime where the agent cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.errors import unknown

if TYPE_CHECKING:
    from edgekd.devices.contract import DeviceSpec

Lane = Literal["gpu_compute", "end_to_end"]

# Runtime -> its timing program.
PROGRAMS = {
    "tensorrt": "trtexec",
    "litert": "benchmark_model",
    "onnxruntime": "onnxruntime_perf_test",
    "ncnn": "benchncnn",
}
FIXED_SHAPE = ("onnxruntime", "ncnn")  # those whose program makes no inputs for a dynamic one
_WITH_LANES, _WITH_GPU = ("tensorrt",), ("litert", "ncnn")


class ToolSpec(BaseModel):
    """A timing program of a runtime.

    Attributes:
        program: where it is on the device: a path, or a name on the PATH; default: its own name there (trtexec: where
            JetPack puts it).
        push: instead, a file on this machine that is brought there, or a folder with the program and its libraries.
        lanes: of trtexec, in this order.
        gpu: of benchmark_model its GPU delegate, of benchncnn the first Vulkan device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    program: str | None = Field(None, pattern=r"^[^\n\r-][^\n\r]*$", description="path or name on the device")
    push: Path | None = Field(None, description="file or folder on this machine that is brought there")
    lanes: tuple[Lane, ...] = Field(("gpu_compute", "end_to_end"), min_length=1, description="what trtexec times")
    gpu: bool = Field(False, description="benchmark_model, benchncnn: on the GPU")


def tool_problems(
    tools: Mapping[str, ToolSpec], runtimes: Sequence[str], python: str | None, providers: Mapping[str, object]
) -> Iterator[str]:
    """What is wrong with `tools` of a device, one text each.

    A device with tools and no `python` has none: nothing is asked of the system's, and each runtime needs its tool.
    """
    for runtime, tool in tools.items():
        where = f"tools.{runtime}"
        if runtime not in PROGRAMS:
            yield f"{where}: {unknown('runtime with a timing program', runtime, PROGRAMS)}"
            continue
        if runtime not in runtimes:
            yield f"{where}: is none of the device's runtimes ({', '.join(runtimes)})"
        if tool.program and tool.push:
            yield f"{where}: has both program (on the device) and push (from here); give one of them"
        if "lanes" in tool.model_fields_set and runtime not in _WITH_LANES:
            yield f"{where}.lanes: {PROGRAMS[runtime]} has none; leave it out"
        if len(set(tool.lanes)) != len(tool.lanes):
            yield f"{where}.lanes: one is given twice; leave it out"
        if tool.gpu and runtime not in _WITH_GPU:
            yield f"{where}.gpu: is for {', '.join(_WITH_GPU)} alone; leave it out"
    if not tools or python:
        return
    for runtime in runtimes:
        if runtime not in tools:
            yield (
                f"runtimes: {runtime} has no program in `tools`, and there is no `python` for the agent; add one of the"
                " two, or take it out"
            )
    for runtime in providers:
        yield f"providers.{runtime}: is for the agent, which needs `python`; leave it out"


def missing_programs(spec: DeviceSpec) -> Iterator[str]:
    """What `tools` names on this machine that is not there, one text each."""
    for runtime, tool in spec.tools.items():
        if tool.push and not tool.push.exists():
            yield (
                f"{spec.name}: tools.{runtime}.push: {tool.push}: no such file on this machine; put {PROGRAMS[runtime]}"
                " there, built for the device"
            )


def fixed_shape_problem(runtime: str, spec: DeviceSpec, *, dynamic: bool) -> str | None:
    """Why a dynamic target cannot be timed on a device without the agent; None if it can."""
    if spec.has_agent or not dynamic or runtime not in FIXED_SHAPE:
        return None
    return (
        f"{PROGRAMS[runtime]} on {spec.name} makes inputs of fixed shapes alone; give the target a fixed batch and size"
    )


def without_agent(runtime: str, spec: DeviceSpec) -> str | None:
    """How artifacts of a runtime are measured on a device without the agent, in words; None where it has one."""
    if spec.has_agent:
        return None
    return f"{PROGRAMS[runtime]} times inference alone there (untested on hardware); accuracy: not measured"
