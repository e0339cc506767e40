"""Imports every exporter, so that each registers itself. A new exporter is one file and one line here."""

from __future__ import annotations

from edgekd.export import onnx_fp16_from_onnx, onnx_from_torch, openvino_from_onnx

__all__ = ["onnx_fp16_from_onnx", "onnx_from_torch", "openvino_from_onnx"]
