"""ONNX to ONNX with 8-bit weights and values (QDQ form), by ONNX Runtime's quantiser. TensorRT reads it, too.

What decodes boxes and scores stays float32: behind the last layers, 8 bits would be a grid of several pixels.
"""

from __future__ import annotations

from pathlib import Path

from edgekd.export.artifacts import quiet, save_onnx, tool_versions
from edgekd.export.contract import Artifact, Job, Source, register
from edgekd.export.int8 import plan, quantise
from edgekd.export.int8_options import QdqOptions
from edgekd.export.qdq import Quantizer


@register(
    "onnx-int8", source="onnx", target="onnx", runtime="onnxruntime", precisions=("int8",), options_type=QdqOptions
)
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write `model.onnx` with QuantizeLinear and DequantizeLinear, and `quantization.json`.

    Raises:
        InputError: too few images to calibrate on, or an accuracy that `max_drop` does not allow.
    """
    assert isinstance(source, Artifact), "the step 'onnx-int8' starts from ONNX"
    with quiet():
        planned = plan("onnx-int8", source, job)
        quantizer = Quantizer(source.model_path, planned.images, source.sidecar, job.options, folder)
        tools = {**source.sidecar.tools, **tool_versions("onnxruntime")}
        sidecar = source.sidecar.model_copy(
            update={"target": job.spec.name, "precision": "int8", "runtime": "onnxruntime", "tools": tools}
        )
        return quantise(
            job,
            planned,
            folder,
            make=lambda nodes, place: save_onnx(quantizer.quantize(nodes), sidecar, place),
            simulated=quantizer,
        )
