"""ONNX to TensorRT: the ONNX stays, and with it goes how the device is to build its engine.

An engine is bound to the version of TensorRT, the GPU and the system that it was built on, so none is ever shipped: the
agent builds it on the device, once, and keeps it there. What the precision of each layer is stands in the ONNX, as
TensorRT from 11 on demands: float16 comes from the step `onnx-fp16`, int8 from `onnx-int8`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgekd.errors import InputError
from edgekd.export.artifacts import quiet, save_onnx
from edgekd.export.contract import Artifact, Job, Sidecar, Source, register

_VERSIONS = {"tensorrt 8": "TensorRT 8.6", "tensorrt 10": "TensorRT 10", "tensorrt 11": "TensorRT 11"}
_NEVER = "no engine was ever built or run by the authors; the builders ran on fakes of the recorded interfaces"
_NEEDED_STEP = {"fp16": "onnx-fp16", "int8": "onnx-int8"}

Extent = tuple[int, int, int]  # batch, height, width


class Shapes(BaseModel):
    """[batch, height, width] that an engine of dynamic batch or size is built for: smallest, usual and largest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Extent
    opt: Extent
    max: Extent


class TensorRTOptions(BaseModel):
    """Under `options: {tensorrt: ...}` of a target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    builder: Literal["python", "trtexec"] = Field(
        "python", description="python: the package, in the agent's process; trtexec: the program, in one of its own"
    )
    shapes: Shapes | None = Field(None, description="for a dynamic batch or size: {min: [batch, height, width], ...}")
    workspace_mb: int | None = Field(None, ge=1, description="memory for a layer's scratch; null: all there is")
    optimization_level: int | None = Field(
        None, ge=0, le=5, description="how long the builder searches; null: TensorRT's own choice (3)"
    )
    timing_cache: bool = Field(True, description="keep measured tactics: later builds on the device are quicker")
    version_compatible: bool = Field(False, description="newer versions may read the engine; slower")
    tf32: bool = Field(False, description="let float32 layers round factors to 10 bits; fp32 is then no float32")
    dla_core: int | None = Field(None, ge=0, description="run on the deep learning accelerator of a Jetson; fp16 only")
    allow_gpu_fallback: bool = Field(
        False, description="layers that the accelerator lacks run on the GPU, and are listed"
    )


def _foresee(sidecar: Sidecar, job: Job) -> Iterator[str]:
    yield from _wrong_step(sidecar, job.spec.precision)
    scheme = job.spec.options.get("onnx-int8", {}).get("scheme", "ort")
    if sidecar.precision == job.spec.precision == "int8" and scheme != "trt":
        yield f"options.onnx-int8.scheme: is {scheme}, whose quantisers TensorRT does not take; use scheme: trt"
    yield from _shape_problems(sidecar, job.options.shapes)
    yield from _accelerator_problems(sidecar, job.options, job.spec.precision)


@register(
    "tensorrt",
    source="onnx",
    target="tensorrt",
    runtime="tensorrt",
    precisions=("fp32", "fp16", "int8"),
    options_type=TensorRTOptions,
    foresee=_foresee,
    untested={word: f"{version}: {_NEVER}" for word, version in _VERSIONS.items()},
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write `model.onnx` and a sidecar whose `build` is the recipe of the engine. Needs no TensorRT and no GPU.

    Raises:
        InputError: an ONNX of another precision, one that TensorRT cannot take, or shapes that do not fit it.
    """
    assert isinstance(source, Artifact), "the step 'tensorrt' starts from ONNX"
    import onnx

    spec, options = job.spec, job.options
    assert isinstance(options, TensorRTOptions)
    sidecar = source.sidecar
    with quiet():
        model = onnx.load(source.model_path)
    problems = [
        *_precision_problems(model.graph, sidecar, spec.precision),
        *_shape_problems(sidecar, options.shapes),
        *_accelerator_problems(sidecar, options, spec.precision),
    ]
    if problems:
        raise InputError(*(f"{spec.name}: {problem}" for problem in problems))
    build = options.model_dump(exclude={"shapes"}, mode="json") | {"input_name": sidecar.input_name}
    if options.shapes:
        build["shapes"] = {key: _in_layout(extent, sidecar) for key, extent in options.shapes}
    changes = {"target": spec.name, "runtime": "tensorrt", "precision": spec.precision, "build": build}
    with quiet():
        return save_onnx(model, sidecar.model_copy(update=changes), folder)


def _precision_problems(graph: Any, sidecar: Sidecar, precision: str) -> Iterator[str]:
    if sidecar.precision != precision:
        yield from _wrong_step(sidecar, precision)
    elif precision == "int8":
        yield from _quantization_problems(graph)


def _wrong_step(sidecar: Sidecar, precision: str) -> Iterator[str]:
    if sidecar.precision != precision:
        step = _NEEDED_STEP.get(precision)
        steps = f"[onnx, {step}, tensorrt]" if step else "[onnx, tensorrt]"
        yield (
            f"precision: {precision}, but what comes before the step 'tensorrt' is {sidecar.precision}: the precision "
            f"of each layer stands in the ONNX; use steps: {steps}"
        )


def _quantization_problems(graph: Any) -> Iterator[str]:
    """Why TensorRT would refuse a QDQ graph: it takes signed values around zero, and no quantised biases."""
    from onnx import TensorProto, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    uneven, biases, count = 0, 0, 0
    for node in graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        count += 1
        zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero_point is not None and zero_point.data_type == TensorProto.INT32:
            biases += 1
        elif zero_point is None or zero_point.data_type != TensorProto.INT8 or numpy_helper.to_array(zero_point).any():
            uneven += 1
    remedy = "use options: {onnx-int8: {scheme: trt}}"
    if not count:
        yield f"precision: int8, but no layer of the ONNX is quantised; {remedy}, or raise its max_float_share"
    if uneven:
        yield f"{uneven} of {count} quantisers are not int8 around zero, which is all that TensorRT takes; {remedy}"
    if biases:
        yield f"{biases} biases are quantised, which TensorRT refuses; {remedy}"


def _shape_problems(sidecar: Sidecar, shapes: Shapes | None) -> Iterator[str]:
    batch, _, height, width = sidecar.input_shape
    fixed = (batch, height, width)
    if None not in fixed:
        if shapes:
            yield f"options.tensorrt.shapes: batch and size are fixed at {list(fixed)}; remove it, or make one dynamic"
        return
    if shapes is None:
        usual = [batch or 1, *sidecar.size_px]
        most = [batch or 8, *sidecar.size_px]
        yield (
            "options.tensorrt.shapes: an engine of dynamic batch or size is built for a range; give one, e.g. "
            f"{{min: {usual}, opt: {usual}, max: {most}}} (batch, height, width)"
        )
        return
    for place, name in enumerate(("batch", "height", "width")):
        low, usual_edge, high = shapes.min[place], shapes.opt[place], shapes.max[place]
        if not 1 <= low <= usual_edge <= high:
            yield f"options.tensorrt.shapes: {name}: {low}, {usual_edge}, {high} is not min <= opt <= max, from 1 up"
        edge = fixed[place]
        if edge is not None and (low, high) != (edge, edge):
            yield f"options.tensorrt.shapes: {name}: is fixed at {edge}; give {edge} for min, opt and max"
    size = sidecar.size_px
    if not all(low <= edge <= high for low, edge, high in zip(shapes.min[1:], size, shapes.max[1:], strict=True)):
        yield f"options.tensorrt.shapes: must include {list(size)} (height, width), which is measured"


def _accelerator_problems(sidecar: Sidecar, options: TensorRTOptions, precision: str) -> Iterator[str]:
    if options.allow_gpu_fallback and options.dla_core is None:
        yield "options.tensorrt.allow_gpu_fallback: does nothing without dla_core; remove it, or set dla_core"
    if options.dla_core is None:
        return
    if precision != "fp16":
        yield f"options.tensorrt.dla_core: the accelerator runs fp16 graphs, not {precision}; start from tensorrt-fp16"
    if None in sidecar.input_shape:
        yield "options.tensorrt.dla_core: the accelerator takes one size; set batch to a number, and size to null"


def _in_layout(extent: Extent, sidecar: Sidecar) -> list[int]:
    batch, height, width = extent
    channels = sidecar.input_shape[1]
    return [batch, height, width, channels] if sidecar.layout == "NHWC" else [batch, channels, height, width]
