"""Tiny artifacts whose every output is known: an 8x8 image has four boxes, one per quadrant; the score of a class is
the mean of its channel there."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

QUADRANTS_PX = np.array([[0, 0, 4, 4], [4, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8]], dtype=np.float32)


def make_images(count: int) -> np.ndarray:
    """(count, 8, 8, 3) uint8."""
    images: np.ndarray = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return images


def expected_scores(images: np.ndarray) -> np.ndarray:
    """(N, 4, 2): means of red and green per quadrant."""
    means: np.ndarray = images.reshape(-1, 2, 4, 2, 4, 3).mean(axis=(2, 4))[..., :2] / 255
    return means.reshape(-1, 4, 2).astype(np.float32)


def write_pack(folder: Path, count: int = 5) -> Path:
    """Images as a pack of an artifact's inputs."""
    path = folder / "pack.npy"
    np.save(path, make_images(count))
    return path


def write_artifact(
    folder: Path, *, runtime: str = "onnxruntime", decode: str = "dense", batch: int | None = None
) -> Path:
    """An artifact folder; `batch` None: dynamic."""
    folder.mkdir(parents=True)
    onnx.save(_model(decode, batch), folder / "model.onnx")
    names = ["model.onnx"]
    if runtime == "openvino":
        import openvino

        openvino.save_model(openvino.convert_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
        (folder / "model.onnx").unlink()
        names = ["model.xml", "model.bin"]
    sidecar = {
        "schema_version": "edgekd.artifact/1", "target": folder.name, "runtime": runtime, "precision": "fp32",
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "class_names": ["red", "green"], "input_shape": [batch, 3, 8, 8], "size_px": [8, 8], "decode": decode,
        "parent_sha256": "0" * 64, "tools": {},
    }  # fmt: skip
    (folder / "edgekd.json").write_text(json.dumps(sidecar))
    return folder


def _model(decode: str, batch: int | None) -> onnx.ModelProto:
    size = batch or "B"
    constants = {
        "first_two": np.array([0, 1], dtype=np.int64),
        "flat": np.array([0, 2, 4], dtype=np.int64),
        "first": np.array([0], dtype=np.int64),
        "zero": np.array(0, dtype=np.float32),
        "quadrants": QUADRANTS_PX[None],
    }
    nodes = [
        helper.make_node("AveragePool", ["images"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Gather", ["pooled", "first_two"], ["two"], axis=1),
        helper.make_node("Reshape", ["two", "flat"], ["by_class"]),
        helper.make_node("Transpose", ["by_class"], ["scores"], perm=[0, 2, 1]),
        helper.make_node("Gather", ["scores", "first"], ["red"], axis=2),
        helper.make_node("Mul", ["red", "zero"], ["none"]),
        helper.make_node("Add", ["none", "quadrants"], ["boxes"]),
        helper.make_node("Concat", ["boxes", "red", "none"], ["detections"], axis=2),
    ]
    shapes = {"boxes": [size, 4, 4], "scores": [size, 4, 2], "detections": [size, 4, 6]}
    wanted = ["boxes", "scores"] if decode == "dense" else ["detections"]
    graph = helper.make_graph(
        nodes if decode == "end2end" else nodes[:-1],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [size, 3, 8, 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in wanted],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
