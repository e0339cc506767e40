"""The outputs as Ultralytics exports them, and as what was written for its exports expects them: one, `output0`.

It is put behind everything else, in float32, so that 8 bits never have to hold pixels and scores in one tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.artifacts import quiet, save_onnx
from edgekd.export.contract import Artifact, TargetSpec
from edgekd.export.graph_nodes import Graph

NAME = "output0"


def as_ultralytics(source: Artifact, spec: TargetSpec, folder: Path) -> Artifact:
    """Write `model.onnx` with the one output `output0`: (B, 4 + K, N) x y w h px and scores, or (B, k, 6) as before.

    Args:
        source: an ONNX with float32 outputs `boxes` (B, N, 4) and `scores` (B, N, K), or `detections` (B, k, 6).
    """
    import onnx

    ranked = source.sidecar.decode == "end2end"
    with quiet():
        model = onnx.load(source.model_path)
        if ranked:
            _rename(model.graph)
        else:
            _join(model.graph, len(source.sidecar.class_names))
        decode = "ultralytics_end2end" if ranked else "ultralytics"
        return save_onnx(model, source.sidecar.model_copy(update={"target": spec.name, "decode": decode}), folder)


def _join(graph: Any, classes: int) -> None:
    """Replace `boxes` and `scores` by one output."""
    from onnx import TensorProto, helper

    batch, points, _ = next(output for output in graph.output if output.name == "boxes").type.tensor_type.shape.dim
    nodes = Graph(graph, "layout")
    low, high = nodes.add_many("Split", "boxes", nodes.integers("corners", [2, 2]), outputs=2, axis=2)
    centre = nodes.add("Mul", nodes.add("Add", low, high), nodes.constant("half", 0.5, np.float32))
    rows = nodes.add("Concat", centre, nodes.add("Sub", high, low), "scores", axis=2)
    nodes.add("Transpose", rows, perm=[0, 2, 1])
    nodes.call_last(NAME)
    nodes.put_last()
    shape = [batch.dim_param or batch.dim_value, 4 + classes, points.dim_param or points.dim_value]
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(NAME, TensorProto.FLOAT, shape))


def _rename(graph: Any) -> None:
    (output,) = graph.output
    for node in graph.node:
        node.input[:] = [NAME if name == output.name else name for name in node.input]
        node.output[:] = [NAME if name == output.name else name for name in node.output]
    output.name = NAME
