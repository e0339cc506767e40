"""NMS inside the graph: an ONNX with dense outputs becomes one that gives `detections`, best first.

Built from standard operators alone, so that one graph serves ONNX Runtime, OpenVINO and TensorRT, whose parser makes an
INMSLayer of it; TensorRT's EfficientNMS plugin would serve that one runtime only.

The result is that of `edgekd.agent.postprocess.decode_dense`: every class is a batch entry of its own whose coordinates
are moved as they are moved there, thresholds are exclusive, and equal scores rank by box, then class. It is the same to
the last bit in ONNX Runtime; OpenVINO leaves the order of equal scores open, and drops a box at the IoU threshold
itself. Only the limit of 30,000 candidates does not exist here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.agent.postprocess import CLASS_OFFSET_PX
from edgekd.errors import InputError
from edgekd.export.artifacts import quiet, save_onnx
from edgekd.export.contract import Artifact, Suppression, TargetSpec
from edgekd.export.graph_nodes import Graph


def append_nms(source: Artifact, spec: TargetSpec, folder: Path) -> Artifact:
    """Write `model.onnx` with the output `detections` (B, max_det, 6): x1 y1 x2 y2 score class, empty rows all zero.

    Args:
        source: an ONNX with float32 outputs `boxes` (B, N, 4) and `scores` (B, N, K).

    Raises:
        InputError: the head is end-to-end.
    """
    import onnx

    refuse_end_to_end(source.sidecar.decode, spec)
    settings = Suppression.model_validate(spec.options.get("nms", {}))
    with quiet():
        model = onnx.load(source.model_path)
        _append(model.graph, len(source.sidecar.class_names), settings)
        sidecar = source.sidecar.model_copy(update={"target": spec.name, "decode": "end2end", "nms": settings})
        return save_onnx(model, sidecar, folder)


def refuse_end_to_end(decode: str, spec: TargetSpec) -> None:
    """Raise an InputError where a target asks for an NMS that the student's head does not need."""
    if spec.nms == "in_graph" and decode != "dense":
        raise InputError(end_to_end_problem(spec))


def end_to_end_problem(spec: TargetSpec) -> str:
    """Why such a head and such a target do not go together."""
    return (
        f"{spec.name}: nms: in_graph: the student's head is end-to-end and needs none; set nms: outside, or "
        "student.head: one2many"
    )


def _append(graph: Any, classes: int, settings: Suppression) -> None:
    """Replace the outputs of a dense graph by `detections`."""
    from onnx import TensorProto, helper

    boxes = next(output for output in graph.output if output.name == "boxes").type.tensor_type.shape
    batch, points = boxes.dim[0], boxes.dim[1].dim_value or None
    nodes = Graph(graph, "nms")
    pairs = _ranked_pairs(nodes, _suppressed(nodes, classes, points, settings), classes, points, settings.max_det)
    _rows(nodes, pairs, classes)
    nodes.put_last()
    del graph.output[:]
    shape = [batch.dim_param or batch.dim_value, settings.max_det, 6]
    graph.output.append(helper.make_tensor_value_info("detections", TensorProto.FLOAT, shape))


def _suppressed(nodes: Graph, classes: int, points: int | None, settings: Suppression) -> str:
    """Scores (B, N, K), zero where a box falls below the threshold or to a better one of its class."""
    boxes = nodes.add("Unsqueeze", _ordered_corners(nodes), nodes.integers("one", [1]))
    moved = nodes.add("Add", boxes, _offsets(nodes, classes))  # (B, K, N, 4)
    count = nodes.add("Gather", nodes.add("Shape", "boxes"), nodes.integers("one", [1])) if points is None else None
    apart = nodes.add("Reshape", moved, _shape(nodes, "boxes", [-1, points, 4], count))
    by_class = nodes.add("Transpose", "scores", perm=[0, 2, 1])
    apart_scores = nodes.add("Reshape", by_class, _shape(nodes, "scores", [-1, 1, points], count))  # (B * K, 1, N)
    kept = nodes.add(
        "NonMaxSuppression",
        apart,
        apart_scores,
        nodes.integers("max_det", [settings.max_det]),
        nodes.constant("iou", [_float_below(settings.iou)], np.float32),
        nodes.constant("conf", [settings.conf], np.float32),
    )
    zeros = nodes.add("ConstantOfShape", nodes.add("Shape", apart_scores))
    scores = nodes.add("ScatterND", zeros, kept, nodes.add("GatherND", apart_scores, kept))
    split = nodes.add("Reshape", scores, _shape(nodes, "classes", [-1, classes, points], count))
    return nodes.add("Transpose", split, perm=[0, 2, 1])


def _ordered_corners(nodes: Graph) -> str:
    """Boxes (B, N, 4) in which x2 >= x1 and y2 >= y1: the operator swaps corners, where for us such a box is empty."""
    low, high = nodes.add_many("Split", "boxes", nodes.integers("corners", [2, 2]), outputs=2, axis=2)
    return nodes.add("Concat", low, nodes.add("Max", low, high), axis=2)


def _offsets(nodes: Graph, classes: int) -> str:
    """(1, K, 1, 1) float32. Kept as integers: a later step may store floating-point constants in 16 bits."""
    from onnx import TensorProto

    offsets = np.arange(classes)[None, :, None, None] * int(CLASS_OFFSET_PX)
    return nodes.add("Cast", nodes.integers("offsets_px", offsets), to=TensorProto.FLOAT)


def _ranked_pairs(nodes: Graph, scores: str, classes: int, points: int | None, max_det: int) -> list[str]:
    """Best scores (B, max_det) and their places (B, max_det) among N * K; the place of an empty one is 0."""
    from onnx import TensorProto

    flat = nodes.add("Reshape", scores, nodes.integers("pairs", [0, -1]))
    if points is None or points * classes < max_det:
        flat = nodes.add("Pad", flat, nodes.integers("padding", [0, 0, 0, max_det]))
    best, places = nodes.add_many("TopK", flat, nodes.integers("max_det", [max_det]), outputs=2, axis=1)
    present = nodes.add("Greater", best, nodes.constant("nothing", 0, np.float32))
    return [best, nodes.add("Mul", places, nodes.add("Cast", present, to=TensorProto.INT64))]


def _rows(nodes: Graph, pairs: list[str], classes: int) -> None:
    from onnx import TensorProto

    best, places = pairs
    last, count = nodes.integers("last", [2]), nodes.integers("classes", classes)
    points = nodes.add("Div", places, count)
    class_ids = nodes.add("Sub", places, nodes.add("Mul", points, count))
    boxes = nodes.add("GatherND", "boxes", nodes.add("Unsqueeze", points, last), batch_dims=1)
    scores = nodes.add("Unsqueeze", best, last)
    present = nodes.add("Greater", scores, nodes.constant("nothing", 0, np.float32))
    shown = nodes.add("Where", present, boxes, nodes.constant("nothing", 0, np.float32))
    labels = nodes.add("Unsqueeze", nodes.add("Cast", class_ids, to=TensorProto.FLOAT), last)
    nodes.add("Concat", shown, scores, labels, axis=2)
    nodes.call_last("detections")


def _shape(nodes: Graph, name: str, sizes: list[int | None], count: str | None) -> str:
    """A shape in which None, where `count` is given, is that value at run time."""
    if count is None:
        return nodes.integers(f"shape_of_{name}", np.array(sizes))
    parts = [count if size is None else nodes.integers(f"size_{size}", [size]) for size in sizes]
    return nodes.add("Concat", *parts, axis=0)


def _float_below(value: float) -> np.float32:
    """The largest float32 not above `value`: exceeding it is exceeding `value`."""
    near: np.float32 = np.float32(value)
    if float(near) > value:
        near = np.nextafter(near, np.float32(-np.inf), dtype=np.float32)
    return near
