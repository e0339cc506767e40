"""The artifact of `edgekd.testing.artifacts` for ncnn and LiteRT, by hand: four boxes, scores from means of images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.testing.artifacts import QUADRANTS_PX

NCNN_GRAPH = """7767517
6 6
Input images 0 1 images
Pooling pool 1 1 images pooled 0=1 1=4 2=4
Crop two 1 1 pooled two 0=0 1=0 2=0 3=2 4=2 5=2
Reshape flat 1 1 two flat 0=4 1=2
Permute turned 1 1 flat scores 0=1
MemoryData quadrants 0 1 boxes 0=4 1=4
"""


def write_ncnn(folder: Path, graph: str = NCNN_GRAPH, precision: str = "fp32") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.param").write_text(graph)
    (folder / "model.bin").write_bytes(QUADRANTS_PX.tobytes())
    return _sealed(folder, "ncnn", ["model.param", "model.bin"], precision, "NCHW")


def write_litert(folder: Path, quantised: bool = False) -> Path:
    """`quantised`: scores leave the graph in steps of 1/255, as int8."""
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(_flatbuffer(quantised))
    return _sealed(folder, "litert", ["model.tflite"], "int8" if quantised else "fp32", "NHWC")


def _sealed(folder: Path, runtime: str, names: list[str], precision: str, layout: str) -> Path:
    sidecar = {
        "schema_version": "edgekd.artifact/1", "target": folder.name, "runtime": runtime, "precision": precision,
        "files": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
        "class_names": ["red", "green"], "input_shape": [1, 3, 8, 8], "size_px": [8, 8], "layout": layout,
        "decode": "dense", "parent_sha256": "0" * 64, "tools": {},
    }  # fmt: skip
    (folder / "edgekd.json").write_text(json.dumps(sidecar))
    return folder


def _flatbuffer(quantised: bool) -> bytes:
    """Average pooling, the first two channels, flattened; the boxes are a constant."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.description, model.buffers = 3, "tiny", [schema.BufferT()]
    model.operatorCodes, graph.operators, graph.tensors = [], [], []

    def tensor(name: str, shape: list[int], value: Any = None, kind: int = schema.TensorType.FLOAT32) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, kind, 0
        if value is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(value).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(kind: str, options: Any, inputs: list[int], output: int) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(made)

    integers = schema.TensorType.INT32
    images, pooled = tensor("in", [1, 8, 8, 3]), tensor("pooled", [1, 2, 2, 3])
    two, scores = tensor("two", [1, 2, 2, 2]), tensor("out_scores", [1, 4, 2])
    boxes = tensor("out_boxes", [1, 4, 4], QUADRANTS_PX)
    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = schema.Padding.VALID, 4, 4, 4, 4
    operator("AVERAGE_POOL_2D", pool, [images], pooled)
    begin = tensor("begin", [4], np.zeros(4, np.int32), integers)
    size = tensor("size", [4], np.array([1, 2, 2, 2], np.int32), integers)
    operator("SLICE", schema.SliceOptionsT(), [pooled, begin, size], two)
    shape = schema.ReshapeOptionsT()
    shape.newShape = [1, 4, 2]
    operator("RESHAPE", shape, [two, tensor("shape", [3], np.array([1, 4, 2], np.int32), integers)], scores)
    if quantised:
        codes = tensor("codes", [1, 4, 2], kind=schema.TensorType.INT8)
        steps = schema.QuantizationParametersT()
        steps.scale, steps.zeroPoint = [1 / 255], [-128]
        graph.tensors[codes].quantization = steps
        operator("QUANTIZE", schema.QuantizeOptionsT(), [scores], codes)
        scores = codes
    graph.inputs, graph.outputs = [images], [boxes, scores]
    model.subgraphs = [graph]
    model.signatureDefs = [_signature(schema, {"images": images}, {"boxes": boxes, "scores": scores})]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _signature(schema: Any, inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    def named(places: dict[str, int]) -> list[Any]:
        maps = []
        for name, index in places.items():
            one = schema.TensorMapT()
            one.name, one.tensorIndex = name, index
            maps.append(one)
        return maps

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = named(inputs), named(outputs)
    return signature
