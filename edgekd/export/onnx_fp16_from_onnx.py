"""ONNX to ONNX with float16 weights and layers; inputs, outputs and the box arithmetic stay float32.

Float16 has 11 bits: at 600 px its steps are half a pixel. The learned layers bear that, coordinates do not. So every
node behind the last learned layer, where distances become pixels and scores become ranks, stays float32. The common
converters cast to float16 and back between any two such nodes, and so round the coordinates after all; here a value is
cast only where it crosses from one part into the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import InputError
from edgekd.export.artifacts import quiet, save_onnx
from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.graph_parts import network_nodes

_LARGEST = float(np.finfo(np.float16).max)
# Sums of many squares or exponentials overflow; logarithms and sampling coordinates need the fine steps.
_DELICATE = {
    "Exp",
    "Pow",
    "Log",
    "ReduceSum",
    "ReduceMean",
    "LayerNormalization",
    "GridSample",
    "CumSum",
    "Range",
    "TopK",
}
_FLOAT32_INPUTS = {"Resize": {1, 2}}  # region and scales, by the standard


@register("onnx-fp16", source="onnx", target="onnx", runtime="onnxruntime", precisions=("fp16",))
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write `model.onnx` of about half the size.

    Raises:
        InputError: the graph has branches or loops.
    """
    assert isinstance(source, Artifact), "the step 'onnx-fp16' starts from ONNX"
    spec = job.spec
    import onnx

    with quiet():
        model = onnx.shape_inference.infer_shapes(onnx.load(source.model_path), strict_mode=True)
        if any(
            attribute.HasField("g") or attribute.graphs for node in model.graph.node for attribute in node.attribute
        ):
            raise InputError(f"{spec.name}: step 'onnx-fp16' cannot convert branches or loops; use precision fp32")
        _Converter(model.graph).convert()
        return save_onnx(model, source.sidecar.model_copy(update={"target": spec.name, "precision": "fp16"}), folder)


def half_nodes(graph: Any) -> set[str]:
    """Names of the nodes that compute in float16: learned layers and what feeds them, less the delicate ones."""
    from onnx import numpy_helper

    network = network_nodes(graph)
    too_large = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == tensor.FLOAT and _overflows(numpy_helper.to_array(tensor))
    }
    return {
        node.name
        for node in graph.node
        if node.name in network and node.op_type not in _DELICATE and too_large.isdisjoint(node.input)
    }


class _Converter:
    """Rewrites one graph in place."""

    def __init__(self, graph: Any) -> None:
        from onnx import TensorProto

        self.graph = graph
        self.single, self.half = TensorProto.FLOAT, TensorProto.FLOAT16
        self.initializers = {tensor.name: tensor for tensor in graph.initializer}
        self.type_of: dict[str, int] = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.type_of[value.name] = value.type.tensor_type.elem_type
        self.copies: dict[tuple[str, int], str] = {}

    def convert(self) -> None:
        half = half_nodes(self.graph)
        nodes: list[Any] = []
        for node in list(self.graph.node):
            wanted = self.half if node.name in half else self.single
            for index, name in enumerate(node.input):
                fixed = index in _FLOAT32_INPUTS.get(node.op_type, ())
                nodes += self._bring(node, index, name, self.single if fixed else wanted)
            if wanted == self.half:
                self._retype(node)
            nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(nodes)
        del self.graph.value_info[:]
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _bring(self, node: Any, index: int, name: str, wanted: int) -> Iterator[Any]:
        """Let `node` read input `index` in the wanted float type; gives the cast that this needs, if any."""
        from onnx import helper, numpy_helper

        given = self.type_of.get(name)
        if given not in (self.single, self.half) or given == wanted or node.op_type == "Cast":
            return
        copy = self.copies.get((name, wanted))
        if copy is None:
            copy = self.copies[name, wanted] = f"{name}_{'fp16' if wanted == self.half else 'fp32'}"
            if name in self.initializers:
                values = numpy_helper.to_array(self.initializers[name]).astype(np.float16)
                self.graph.initializer.append(numpy_helper.from_array(values, copy))
            else:
                yield helper.make_node("Cast", [name], [copy], name=f"{copy}_cast", to=wanted)
        node.input[index] = copy

    def _retype(self, node: Any) -> None:
        """Make the results of a float16 node, and the constants inside it, float16."""
        from onnx import numpy_helper

        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == self.single:
                attribute.i = self.half
            elif attribute.HasField("t") and attribute.t.data_type == self.single:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
        for name in node.output:
            if self.type_of.get(name) == self.single:
                self.type_of[name] = self.half


def _overflows(values: Any) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size and np.abs(finite).max() > _LARGEST)
