"""Torch to ONNX: the one way out of torch; every other artifact is made from this one.

The graph comes from torch's TorchScript exporter: the newer one needs a further package (onnxscript).
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.export.artifacts import quiet, save_onnx, tool_versions
from edgekd.export.contract import Artifact, Job, Sidecar, Source, TargetSpec, register

OUTPUT_NAMES = {"dense": ["boxes", "scores"], "end2end": ["detections"]}
_TRACE_BATCH = 2  # of a dynamic batch: 1 would be taken for a constant and broadcast


@register("onnx", source="torch", target="onnx", runtime="onnxruntime", precisions=("fp32",))
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write `model.onnx`, float32, with input `images` (B, C, H, W) and outputs as in `OUTPUT_NAMES`.

    `source.module` is not changed.

    Raises:
        InputError: an operator that the opset lacks, or a module that cannot be traced.
    """
    assert isinstance(source, Source), "the step 'onnx' starts from torch"
    spec = job.spec
    import onnx

    sidecar = _sidecar(source, spec)
    with quiet():
        path = folder / "model.onnx"
        _trace(source, spec, path)
        model = onnx.load(path)
        if spec.simplify:
            import onnxslim

            model = onnxslim.slim(model)
        _tidy(model.graph)
        return save_onnx(model, sidecar, folder)


def _trace(source: Source, spec: TargetSpec, path: Path) -> None:
    import torch

    batch = _TRACE_BATCH if spec.batch == "dynamic" else spec.batch
    images = torch.zeros(batch, source.channels, *source.size_px)
    names = OUTPUT_NAMES[source.decode]
    try:
        with torch.no_grad():
            torch.onnx.export(
                deepcopy(source.module).eval(),  # tracing leaves traced constants in caches of the module
                (images,),
                str(path),
                opset_version=spec.opset,
                input_names=["images"],
                output_names=names,
                dynamic_axes=_dynamic_axes(spec, names),
                dynamo=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        height, width = source.size_px
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{spec.name}: the student cannot be exported to ONNX at {height}x{width} with opset {spec.opset} "
            f"({reason}); raise 'opset' (at most 20), or train a student without that operator"
        ) from error


def _dynamic_axes(spec: TargetSpec, outputs: list[str]) -> dict[str, dict[int, str]] | None:
    """Names of the free axes; the number of rows follows from the size."""
    images: dict[int, str] = {0: "batch"} if spec.batch == "dynamic" else {}
    rows = dict(images)
    if spec.size == "dynamic":
        images |= {2: "height", 3: "width"}
        rows[1] = "rows"
    return {"images": images, **dict.fromkeys(outputs, rows)} if images else None


def _tidy(graph: Any) -> None:
    """Give each node a name of its own, by which later steps address it, and drop weights that nothing reads."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    read = {name for node in graph.node for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _sidecar(source: Source, spec: TargetSpec) -> Sidecar:
    height, width = (None, None) if spec.size == "dynamic" else source.size_px
    return Sidecar(
        target=spec.name,
        runtime="onnxruntime",
        precision="fp32",
        files={},
        class_names=source.class_names,
        input_shape=(None if spec.batch == "dynamic" else spec.batch, source.channels, height, width),
        size_px=source.size_px,
        channel_order="RGB" if source.channels == 3 else "as_data",
        size_multiple=source.size_multiple,
        decode=source.decode,
        parent_sha256=source.sha256,
        tools=tool_versions("torch", "onnx", *(("onnxslim",) if spec.simplify else ())),
    )
