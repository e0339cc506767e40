"""Imports every exporter, so that each registers itself. A new exporter is one file and one line here."""

from __future__ import annotations

from edgekd.export import (
    coreml_from_onnx,
    executorch_from_onnx,
    litert_from_onnx,
    ncnn_from_onnx,
    onnx_fp16_from_onnx,
    onnx_from_torch,
    onnx_int8_from_onnx,
    openvino_from_onnx,
    openvino_int8_from_onnx,
    tensorrt_from_onnx,
)

__all__ = [
    "coreml_from_onnx",
    "executorch_from_onnx",
    "litert_from_onnx",
    "ncnn_from_onnx",
    "onnx_fp16_from_onnx",
    "onnx_from_torch",
    "onnx_int8_from_onnx",
    "openvino_from_onnx",
    "openvino_int8_from_onnx",
    "tensorrt_from_onnx",
]
