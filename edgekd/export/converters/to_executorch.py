"""ONNX to ExecuTorch (`.pte`) for its XNNPACK backend, and one run of the result in the library's own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def convert(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `model.pte`.

    Args:
        job: `onnx`, `images`, an array file (n, C, H, W) of inputs to compare on.

    Returns:
        `max_abs`: largest absolute difference of each output, by name, between the program and the ONNX in torch.
    """
    import numpy as np
    import onnx
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (  # type: ignore[import-not-found]
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower  # type: ignore[import-not-found]
    from executorch.runtime import Runtime  # type: ignore[import-not-found]
    from job import versions  # type: ignore[import-not-found]
    from onnx_module import OnnxModule  # type: ignore[import-not-found]

    module = OnnxModule(onnx.load(job["onnx"])).eval()
    images = torch.from_numpy(np.load(job["images"]))
    with torch.no_grad():
        expected = module(images)
        exported = torch.export.export(module, (images,))
    lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
    path = folder / "model.pte"
    path.write_bytes(lowered.to_executorch().buffer)
    actual = Runtime.get().load_program(path).load_method("forward").execute([images])
    pairs = zip(module.outputs, expected, actual, strict=True)
    differences = {name: float((one - other).abs().max()) for name, one, other in pairs}
    return {"tools": versions("executorch"), "max_abs": differences}


if __name__ == "__main__":
    from job import run

    run(convert)
