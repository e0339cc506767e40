"""A float detector of three layers by hand, as an artifact: 16x16 px, 64 boxes, two classes, and its decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.export.artifacts import save_onnx, tool_versions
from edgekd.export.contract import Artifact, Sidecar
from edgekd.types import ByteArray

LAYERS = ("stem/Conv", "body/Conv", "head/Conv")
DECODING = ("flat", "turned", "logits", "sigmoid", "distances", "boxes_px")


def images(count: int) -> ByteArray:
    """(count, 16, 16, 3) uint8."""
    return np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def artifact(folder: Path, weak_layer: int = 1) -> Artifact:
    """Layer `weak_layer` has one input channel that is a thousand times as large as the others: 8 bits lose those."""
    folder.mkdir(parents=True, exist_ok=True)
    sidecar = Sidecar(
        target="tiny", runtime="onnxruntime", precision="fp32", files={}, class_names=("a", "b"),
        input_shape=(1, 3, 16, 16), size_px=(16, 16), decode="dense", parent_sha256="5eed" * 16,
        tools=tool_versions("onnx"),
    )  # fmt: skip
    return save_onnx(model(weak_layer), sidecar, folder)


def model(weak_layer: int) -> Any:
    random = np.random.default_rng(0)
    shapes = ((8, 3, 3, 3), (16, 8, 3, 3), (6, 16, 1, 1))
    weights = [random.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]
    if weak_layer:
        weights[weak_layer - 1][0] *= 1000
        weights[weak_layer][:, 0] /= 1000
    constants = {
        **{f"w{index}": weight for index, weight in enumerate(weights)},
        **{f"b{index}": np.zeros(len(weight), np.float32) for index, weight in enumerate(weights)},
        "flat_shape": np.array([0, 6, 64], np.int64),
        "zero": np.array([0], np.int64), "four": np.array([4], np.int64), "six": np.array([6], np.int64),
        "last": np.array([2], np.int64), "scale": np.array(16, np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["images", "w0", "b0"], ["stem"], name=LAYERS[0], pads=[1] * 4, strides=[2, 2]),
        node("Sigmoid", ["stem"], ["gate"], name="stem/Sigmoid"),
        node("Mul", ["stem", "gate"], ["swish"], name="stem/Mul"),
        node("Conv", ["swish", "w1", "b1"], ["body"], name=LAYERS[1], pads=[1] * 4),
        node("Relu", ["body"], ["rectified"], name="body/Relu"),
        node("Conv", ["rectified", "w2", "b2"], ["raw"], name=LAYERS[2]),
        node("Reshape", ["raw", "flat_shape"], ["flat"], name="flat"),
        node("Transpose", ["flat"], ["rows"], name="turned", perm=[0, 2, 1]),
        node("Slice", ["rows", "four", "six", "last"], ["class_logits"], name="logits"),
        node("Sigmoid", ["class_logits"], ["scores"], name="sigmoid"),
        node("Slice", ["rows", "zero", "four", "last"], ["sides"], name="distances"),
        node("Mul", ["sides", "scale"], ["boxes"], name="boxes_px"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "tiny", [value("images", TensorProto.FLOAT, [1, 3, 16, 16])],
        [value("boxes", TensorProto.FLOAT, [1, 64, 4]), value("scores", TensorProto.FLOAT, [1, 64, 2])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.checker.check_model(made, full_check=True)
    return made
