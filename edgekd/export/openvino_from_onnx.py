"""ONNX to OpenVINO IR (`model.xml` and `model.bin`).

Uses the library's own ONNX frontend and the graph clean-up of its converter.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import edgekd.agent.runtimes  # noqa: F401  (before the library: switches off what it would report to its vendor)
from edgekd.export.artifacts import METADATA_KEY, metadata, quiet, seal, tool_versions
from edgekd.export.contract import Artifact, Job, Sidecar, Source, TargetSpec, register
from edgekd.export.engine_metadata import write_beside
from edgekd.export.outputs import least_openvino


@register("openvino", source="onnx", target="openvino", runtime="openvino", precisions=("fp32", "fp16"))
def export(source: Source | Artifact, job: Job, folder: Path) -> Artifact:
    """Write the IR; with precision fp16 its weights are float16, what a device computes in is the runtime's choice."""
    assert isinstance(source, Artifact), "the step 'openvino' starts from ONNX"
    with quiet():
        return write_model(read_model(source.model_path), source.sidecar, job.spec, folder)


def read_model(path: Path) -> Any:
    """An `openvino.Model` of an ONNX, cleaned up."""
    from openvino._offline_transformations import apply_moc_transformations

    from edgekd.agent.runtimes.openvino_runtime import shared_core

    model = shared_core().read_model(path)
    apply_moc_transformations(model, cf=False, smart_reshape=True)
    return model


def write_model(model: Any, source: Sidecar, spec: TargetSpec, folder: Path, *tools: str) -> Artifact:
    """Write `model.xml` and `model.bin` with a sidecar.

    Args:
        model: an `openvino.Model`.
        source: sidecar of what it was made from.
        tools: packages that had a part in it, beside OpenVINO.
    """
    import openvino

    opsets = {node.get_type_info().version_id for node in model.get_ordered_ops()}
    sidecar = source.model_copy(
        update={
            "least_runtime": least_openvino(opsets),
            "target": spec.name,
            "runtime": "openvino",
            "precision": spec.precision,
            "tools": {**source.tools, **tool_versions("openvino", *tools)},
        }
    )
    _name_by_place(model)
    model.set_rt_info(metadata(sidecar), [METADATA_KEY])
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=spec.precision == "fp16")
    return seal(folder, ("model.xml", "model.bin", write_beside(folder, sidecar)), sidecar)


def _name_by_place(model: Any) -> None:
    """Rename what the library numbered by a counter of the process: the same model shall give the same bytes."""
    for index, node in enumerate(model.get_ordered_ops()):
        if re.fullmatch(r"[A-Za-z0-9]+_\d+", node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{index}")
