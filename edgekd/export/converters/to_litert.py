"""ONNX to LiteRT (`.tflite`): through torch with litert-torch, then to fewer bits with ai-edge-quantizer."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Any

SIGNATURE = "serving_default"  # the library's name for the only one
_LAYERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
_FEWEST_WEIGHTS = 64  # a layer with fewer is no layer of the network: the fixed bins of a box distribution
_IN_FLOAT = {"SOFTMAX", "BATCH_MATMUL"}  # attention: its scores span more than 8 bits hold
_RENAMED = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}  # of the operators, in the quantizer


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.tflite`, its input named as in the ONNX, (1, H, W, C).

    Args:
        job: `onnx`, `precision` (fp32, fp16, int8), `layout` of the ONNX's input; for int8 `images`, an array file
            (n, H, W, C) uint8 to calibrate on, what they are divided by (`scale`, None for a uint8 input), `threads`.
    """
    from job import versions  # type: ignore[import-not-found]

    path = folder / "model.tflite"
    _write_float(Path(job["onnx"]), job["layout"], path)
    packages = ["litert-torch"]
    if job["precision"] != "fp32":
        {"fp16": _halve, "int8": _quantise}[job["precision"]](path, job)
        packages.append("ai-edge-quantizer")
    return {"tools": versions(*packages)}


def _write_float(source: Path, layout: str, path: Path) -> None:
    import litert_torch  # type: ignore[import-not-found]
    import onnx
    import torch
    from onnx_module import OnnxModule  # type: ignore[import-not-found]

    model = onnx.load(source)
    module = OnnxModule(model)
    given = model.graph.input[0]
    shape = [size.dim_value for size in given.type.tensor_type.shape.dim]
    integer = given.type.tensor_type.elem_type == onnx.TensorProto.UINT8

    class Named(torch.nn.Module):
        """Channels last, and the names of the ONNX."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = self.module(images.permute(0, 3, 1, 2) if layout == "NCHW" else images)
            return dict(zip(module.outputs, outputs, strict=True))

    if layout == "NCHW":
        shape = [shape[0], shape[2], shape[3], shape[1]]
    images = torch.zeros(shape, dtype=torch.uint8 if integer else torch.float32)
    litert_torch.convert(Named().eval(), sample_kwargs={"images": images}).export(str(path))


def _halve(path: Path, _: dict[str, Any]) -> None:
    """Weights of layers in float16; what a device computes in is its own choice."""
    from ai_edge_quantizer import algorithm_manager, qtyping, quantizer  # type: ignore[import-not-found]

    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    casting = quantizer.Quantizer(str(path))
    for kind in sorted(_LAYERS):
        name = qtyping.TFLOperationName(_RENAMED.get(kind, kind))
        casting.update_quantization_recipe(
            ".*", name, op_config=config, algorithm_key=algorithm_manager.AlgorithmName.FLOAT_CASTING
        )
    casting.quantize().export_model(str(path), overwrite=True)


def _quantise(path: Path, job: dict[str, Any]) -> None:
    """8 bits for weights and values of all that leads to a layer; the last layers and the decoding stay float32."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-not-found]
    from ai_edge_quantizer import qtyping, quantizer

    plain = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    tensors = {detail["index"]: detail for detail in plain.get_tensor_details()}
    known = {name.value for name in qtyping.TFLOperationName}
    static = quantizer.Quantizer(str(path))
    for operator in upstream(plain._get_ops_details(), tensors):
        kind = _RENAMED.get(operator["op_name"], operator["op_name"])
        if kind in known and kind not in _IN_FLOAT:
            scope = re.escape(tensors[operator["outputs"][0]]["name"]) + ";"
            static.add_static_config(scope, qtyping.TFLOperationName(kind), activation_num_bits=8, weight_num_bits=8)
    images = np.load(job["images"], mmap_mode="r")
    scale = job["scale"]
    inputs = (image if scale is None else image.astype(np.float32) / np.float32(scale) for image in images)
    samples = [{"images": np.ascontiguousarray(image[None])} for image in inputs]
    ranges = static.calibrate({SIGNATURE: samples}, num_threads=job["threads"])
    static.quantize(ranges).export_model(str(path), overwrite=True)


def upstream(operators: list[dict[str, Any]], tensors: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Operators that a learned layer depends on: the network without its last layers and without the decoding.

    Args:
        operators: in order, each with `op_name`, `inputs` and `outputs`.
        tensors: their details by index, with `shape`.
    """
    needed: set[int] = set()
    found = []
    for operator in reversed(operators):
        leads = any(index in needed for index in operator["outputs"])
        if leads or (operator["op_name"] in _LAYERS and _weights(operator, tensors) >= _FEWEST_WEIGHTS):
            needed.update(int(index) for index in operator["inputs"])
        if leads:
            found.append(operator)
    return found[::-1]


def _weights(operator: dict[str, Any], tensors: dict[int, dict[str, Any]]) -> int:
    """Number of a layer's weights. A transposed convolution's input 0 is the shape of its result, 1 the weights."""
    return prod(int(size) for size in tensors[operator["inputs"][1]]["shape"])


if __name__ == "__main__":
    from job import run

    run(convert)
