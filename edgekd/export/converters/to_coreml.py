"""ONNX to Core ML: an ML program, as a zip of its package, since a package is a folder."""

from __future__ import annotations

import shutil
import zipfile
from math import prod
from pathlib import Path
from typing import Any

_LAYERS = {"conv", "conv_transpose", "linear"}
_FEWEST_WEIGHTS = 64  # a layer with fewer is no layer of the network: the fixed bins of a box distribution


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.mlpackage.zip`.

    Args:
        job: `onnx`, `precision` (fp32, fp16), `metadata`: texts by key that are kept inside the model.
    """
    import coremltools  # type: ignore[import-not-found]
    import numpy as np
    import onnx
    import torch
    from job import versions  # type: ignore[import-not-found]
    from onnx_module import OnnxModule  # type: ignore[import-not-found]

    model = onnx.load(job["onnx"])
    module = OnnxModule(model).eval()
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    with torch.no_grad():
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, (torch.zeros(shape),)
        )
    precision = coremltools.precision.FLOAT32
    if job["precision"] == "fp16":
        precision = coremltools.transform.FP16ComputePrecision(op_selector=leads_to_layer)
    program = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(module.inputs[0], shape=shape, dtype=np.float32)],
        outputs=[coremltools.TensorType(name, dtype=np.float32) for name in module.outputs],
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=precision,
        skip_model_load=True,
    )
    for key, text in job["metadata"].items():
        program.user_defined_metadata[key] = text
    package = folder / "model.mlpackage"
    program.save(str(package))
    with zipfile.ZipFile(folder / "model.mlpackage.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            archive.write(path, path.relative_to(folder))
    shutil.rmtree(package)
    return {"tools": versions("coremltools")}


def leads_to_layer(operator: Any) -> bool:
    """Whether a learned layer is, or depends on, an operator. What decodes the last layers stays in float32.

    Args:
        operator: of the library's program, with `op_type`, `outputs` and `inputs`.
    """
    seen = {operator}
    waiting = [operator]
    while waiting:
        one = waiting.pop()
        if one.op_type in _LAYERS and _weights(one) >= _FEWEST_WEIGHTS:
            return True
        readers = {reader for output in one.outputs for reader in output.child_ops} - seen
        seen |= readers
        waiting += readers
    return False


def _weights(operator: Any) -> int:
    weight = operator.inputs.get("weight")
    return prod(weight.shape) if weight is not None else _FEWEST_WEIGHTS


if __name__ == "__main__":
    from job import run

    run(convert)
