"""Pre-processing inside the graph: the input becomes uint8 (B, H, W, C), as cameras deliver it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgekd.errors import InputError
from edgekd.export.artifacts import quiet, save_onnx
from edgekd.export.contract import Artifact, Sidecar, TargetSpec
from edgekd.export.graph_nodes import Graph


class InputOptions(BaseModel):
    """`options: {input: ...}` of a target with `input: uint8_nhwc`.

    Attributes:
        channel_order: of the frames that the model will get; OpenCV delivers BGR.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    channel_order: Literal["RGB", "BGR"] = "RGB"


def take_uint8(source: Artifact, spec: TargetSpec, folder: Path) -> Artifact:
    """Write `model.onnx` whose input `images` is (B, H, W, C) uint8; cast, layout and scale are its first nodes.

    The scale is a division in float32, as it is outside the graph, so the results are the same to the last bit.

    Args:
        source: an ONNX with a float32 input `images` (B, C, H, W).

    Raises:
        InputError: another channel order is asked of images that are not RGB.
    """
    import onnx

    options = InputOptions.model_validate(spec.options.get("input", {}))
    sidecar = source.sidecar
    problem = order_problem(sidecar, spec)
    if problem:
        raise InputError(f"{spec.name}: {problem}")
    with quiet():
        model = onnx.load(source.model_path)
        _prepend(model.graph, sidecar, options.channel_order == "BGR")
        changes: dict[str, Any] = {"target": spec.name, "layout": "NHWC", "input_dtype": "uint8"}
        if options.channel_order == "BGR":
            changes["channel_order"] = "BGR"
        return save_onnx(model, sidecar.model_copy(update=changes), folder)


def order_problem(sidecar: Sidecar, spec: TargetSpec) -> str | None:
    """Why images of the data cannot come in the order that is asked for; None if they can."""
    options = InputOptions.model_validate(spec.options.get("input", {}))
    if options.channel_order == "RGB" or sidecar.channel_order == "RGB":
        return None
    return (
        f"options.input.channel_order: BGR, but the data has {sidecar.input_shape[1]} channels, which are not RGB; "
        "remove it"
    )


def _prepend(graph: Any, sidecar: Sidecar, reverse: bool) -> None:
    from onnx import TensorProto

    name = sidecar.input_name
    given = next(value for value in graph.input if value.name == name).type.tensor_type
    for node in graph.node:
        for index, read in enumerate(node.input):
            if read == name:
                node.input[index] = f"{name}_scaled"
    nodes = Graph(graph, "uint8")
    pixels = nodes.add("Cast", name, to=TensorProto.FLOAT)
    if reverse:
        pixels = nodes.add("Gather", pixels, nodes.integers("reversed", [2, 1, 0]), axis=3)
    planes = nodes.add("Transpose", pixels, perm=[0, 3, 1, 2])
    nodes.add("Div", planes, nodes.constant("scale", sidecar.scale, np.float32))
    nodes.call_last(f"{name}_scaled")
    nodes.put_first()
    given.elem_type = TensorProto.UINT8
    batch, channels, height, width = (type(size)() for size in given.shape.dim)
    for size, copy in zip(given.shape.dim, (batch, channels, height, width), strict=True):
        copy.CopyFrom(size)
    del given.shape.dim[:]
    given.shape.dim.extend([batch, height, width, channels])
