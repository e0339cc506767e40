"""ONNX graphs as torch modules against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekd.export.converters.onnx_module import OnnxModule
from edgekd.export.targets import run_steps
from tests.export.students import photographs, source, target

IMAGES = np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)


def graph(kind: str, *constants: Any, outputs: int = 1, first: bool = True, **attributes: Any) -> onnx.ModelProto:
    """One operator that reads `images` (unless not `first`) and constants; None is an input left out."""
    names = [f"constant_{index}" if value is not None else "" for index, value in enumerate(constants)]
    tensors = [
        numpy_helper.from_array(np.asarray(value), name) for value, name in zip(constants, names, strict=True) if name
    ]
    node = helper.make_node(
        kind, [*(["images"] if first else []), *names], [f"out{i}" for i in range(outputs)], **attributes
    )
    model = helper.make_model(
        helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)],
            [helper.make_tensor_value_info(f"out{i}", TensorProto.UNDEFINED, None) for i in range(outputs)],
            tensors,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    for value, inferred in zip(model.graph.output, onnx.shape_inference.infer_shapes(model).graph.output, strict=True):
        value.CopyFrom(inferred)
    return model


def both(model: onnx.ModelProto, images: Any = IMAGES) -> tuple[list[Any], list[Any]]:
    """Outputs in ONNX Runtime and in torch."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = OnnxModule(model).eval()(torch.from_numpy(images))
    return session.run(None, {"images": images}), [output.numpy() for output in ours]


def floats(*shape: int) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


CASES = {
    "conv, uneven pads": graph("Conv", floats(6, 4, 3, 3), floats(6), pads=[0, 1, 2, 1], strides=[2, 1]),
    "conv, groups, dilated": graph("Conv", floats(4, 1, 3, 3), group=4, pads=[2, 2, 2, 2], dilations=[2, 2]),
    "conv transposed": graph("ConvTranspose", floats(4, 3, 2, 2), strides=[2, 2]),
    "max pool": graph("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "max pool, uneven pads": graph("MaxPool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    "average pool": graph("AveragePool", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1),
    "batch norm": graph("BatchNormalization", floats(4), floats(4), floats(4), floats(4) ** 2),
    "layer norm": graph("LayerNormalization", floats(8), floats(8), axis=-1),
    "nearest": graph(
        "Resize", None, np.array([1, 1, 2, 2], np.float32), mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    ),
    "bilinear": graph("Resize", None, None, np.array([1, 4, 12, 24]), mode="linear"),
    "slice, negative": graph("Slice", np.array([-3, 1]), np.array([2**31 - 1, -1]), np.array([3, 2]), np.array([2, 1])),
    "split, sizes": graph("Split", np.array([1, 3]), outputs=2, axis=1),
    "split, even": graph("Split", outputs=2, axis=3, num_outputs=2),
    "gather, negative": graph("Gather", np.array([[0, -1], [2, 1]]), axis=1),
    "top k": graph("TopK", np.array([3]), outputs=2, axis=-1),
    "reshape": graph("Reshape", np.array([0, -1, 8])),
    "expand": graph("Expand", np.array([2, 4, 1, 8])),
    "tile": graph("Tile", np.array([1, 2, 1, 3])),
    "unsqueeze": graph("Unsqueeze", np.array([0, -1])),
    "squeeze": graph("Squeeze", np.array([0])),
    "flatten": graph("Flatten", axis=2),
    "clip, one bound": graph("Clip", None, np.float32(0.5)),
    "hard sigmoid": graph("HardSigmoid", alpha=0.3, beta=0.4),
    "reduce": graph("ReduceMax", np.array([1, -1]), keepdims=0),
    "reduce all": graph("ReduceMean"),
    "softmax": graph("Softmax", axis=1),
    "cast and back": graph("Cast", to=TensorProto.INT64),
    "pow": graph("Pow", np.float32(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_are_those_of_onnx(name: str) -> None:
    expected, ours = both(CASES[name])
    for one, other in zip(expected, ours, strict=True):
        assert one.shape == other.shape
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, atol=2e-5)


def test_a_student_is_the_same(tmp_path: Path) -> None:
    artifact = run_steps(source("yolo26p", "one2one"), target("onnx-fp32"), tmp_path / "onnx")
    images = np.ascontiguousarray(photographs(1, 64, 96).transpose(0, 3, 1, 2), dtype=np.float32) / 255
    (expected,), (ours,) = both(onnx.load(artifact.model_path), images)
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize("name", ["slice, negative", "split, sizes", "gather, negative", "bilinear", "expand"])
def test_converters_can_capture_it_as_a_graph(name: str) -> None:
    """Shapes and axes are numbers by then: a graph has no way to look into a tensor."""
    module = OnnxModule(CASES[name]).eval()
    program = torch.export.export(module, (torch.from_numpy(IMAGES),))
    for one, other in zip(program.module()(torch.from_numpy(IMAGES)), both(CASES[name])[0], strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=2e-5)


def test_constants_are_computed_once() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["shape"], axis=0),
        helper.make_node("Reshape", ["images", "shape"], ["out0"]),
    ]
    inner = helper.make_graph(
        nodes,
        "fold",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, IMAGES.shape)],
        [helper.make_tensor_value_info("out0", TensorProto.FLOAT, [24, 8])],
        [numpy_helper.from_array(np.array([size]), name) for name, size in (("a", 24), ("b", 8))],
    )
    module = OnnxModule(helper.make_model(inner))
    assert [node.kind for node in module.nodes] == ["Reshape"]
    assert module(torch.from_numpy(IMAGES))[0].shape == (24, 8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph("Hardmax"), "operators that this converter does not know: Hardmax"),
        (
            graph("Resize", None, np.array([1, 1, 2, 2], np.float32), mode="cubic"),
            ": this use of Resize (cubic, half_pixel, round_prefer_floor)",
        ),
        (
            graph("Slice", np.array([5]), np.array([0]), np.array([3]), np.array([-1])),
            ": this use of Slice (a step below 1)",
        ),
    ],
)
def test_what_has_no_translation_is_named(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(NotImplementedError) as caught:
        OnnxModule(model)(torch.from_numpy(IMAGES))
    assert str(caught.value) == message
