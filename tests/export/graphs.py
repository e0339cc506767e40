"""Boxes and scores as inputs of a graph: an artifact whose predictions the test chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.artifacts import save_onnx, tool_versions
from edgekd.export.contract import Artifact, Sidecar, TargetSpec


def given_predictions(points: int | None, classes: int, folder: Path, batch: int | None = None) -> Artifact:
    """An ONNX with inputs `b` (B, N, 4) and `s` (B, N, K), passed through as `boxes` and `scores`; None: dynamic."""
    from onnx import TensorProto, helper

    folder.mkdir(parents=True)
    sizes = {"b": [batch or "B", points or "N", 4], "s": [batch or "B", points or "N", classes]}
    outputs = {"boxes": "b", "scores": "s"}
    graph = helper.make_graph(
        [helper.make_node("Identity", [read], [name], name=f"pass_{name}") for name, read in outputs.items()],
        "given",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes[read]) for name, read in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    sidecar = Sidecar(
        target="given", runtime="onnxruntime", precision="fp32", files={}, size_px=(32, 32), decode="dense",
        class_names=tuple(f"class {index}" for index in range(classes)), input_shape=(batch, 3, None, None),
        parent_sha256="0" * 64, tools=tool_versions(),
    )  # fmt: skip
    return save_onnx(model, sidecar, folder)


def predictions(seed: int, points: int, classes: int, size_px: int, batch: int = 1) -> tuple[Any, Any]:
    """Clustered boxes (B, N, 4) and scores (B, N, K), float32."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0, size_px, (batch, max(points // 30, 1), 2))
    members = random.integers(0, centres.shape[1], (batch, points, 1)).repeat(2, axis=2)
    centres = np.take_along_axis(centres, members, 1) + random.normal(0, size_px * 0.01, (batch, points, 2))
    sides = np.exp(random.normal(np.log(size_px * 0.15), 0.25, (batch, points, 2)))
    scores = 1 / (1 + np.exp(-random.normal(-4.0, 2.5, (batch, points, classes))))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=2)
    return boxes.astype(np.float32), scores.astype(np.float32)


def spec(**changes: Any) -> TargetSpec:
    """A target without YAML."""
    content = {
        "name": "mine", "steps": ("onnx",), "runtime": "onnxruntime", "precision": "fp32",
        "tolerance": {"max_abs_score": 0.001, "max_abs_box_px": 0.1},
    }  # fmt: skip
    return TargetSpec.model_validate({**content, **changes})
