"""`edgekd export RUN --bisect TARGET`: looks into one artifact, value by value, on a real validation image."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.atomic import write_json
from edgekd.errors import InputError, unknown
from edgekd.export.artifacts import open_artifact
from edgekd.export.bisect import bisect, table
from edgekd.export.contract import Source, TargetSpec
from edgekd.export.parity import compare
from edgekd.export.targets import run_steps
from edgekd.stages.context import Context
from edgekd.stages.export import measured_size, source_for
from edgekd.stages.quantize import student_for
from edgekd.stages.train import Trained, load_trained

BISECT_NAME = "bisect.json"


def bisect_target(context: Context, name: str, *, everything: bool = False) -> tuple[dict[str, Any], str]:
    """Compare an exported artifact with the float32 ONNX of its student, and that ONNX with torch.

    Args:
        everything: the table shows every node, not those alone that are beyond the threshold.

    Returns:
        the content of `export/<target>/bisect.json`, which it writes, and the same as a table.

    Raises:
        InputError: no such target, not exported yet, or a form that cannot be looked into.
    """
    target = _target(context, name)
    artifact = open_artifact(context.path / "export" / target.name)
    source = source_for(context, target, load_trained(context, Trained(student_for(context, target))))
    if artifact.sidecar.parent_sha256 != source.sha256:
        raise InputError(f"{artifact.folder}: was made from another student; export it again with 'edgekd export'")
    images = np.asarray(context.pack(measured_size(target, context)).arrays()[:1])
    with tempfile.TemporaryDirectory(prefix="edgekd-bisect-") as folder:
        reference = run_steps(source, _float_onnx(target), Path(folder) / "onnx")
        against_torch = compare(source.module, reference, images, target)
        batch = np.repeat(images, artifact.sidecar.input_shape[0] or 1, axis=0)
        record = bisect(reference, artifact, batch)
    figures = {key: against_torch[key] for key in ("max_abs_score", "max_abs_box_px")}
    record = {**record, "onnx_against_torch": figures}
    write_json(artifact.folder / BISECT_NAME, record)
    return record, f"{table(record, everything=everything)}\n{_first_step(source, figures)}"


def _target(context: Context, name: str) -> TargetSpec:
    targets = {target.name: target for target in context.bound.targets}
    if name not in targets:
        raise InputError(f"--bisect: {unknown('target', name, targets)}")
    return targets[name]


def _float_onnx(target: TargetSpec) -> TargetSpec:
    """The target that stops at float32 ONNX, with nothing folded into its ends."""
    plain = {"steps": ("onnx",), "runtime": "onnxruntime", "precision": "fp32", "options": {}}
    return target.model_copy(update={**plain, "nms": "outside", "input": "float32_nchw", "layout": "edgekd"})


def _first_step(source: Source, figures: dict[str, Any]) -> str:
    kind = "detections" if source.decode == "end2end" else "outputs"
    values = ("not finite" if value is None else f"{value:.1e}" for value in figures.values())
    return "float32 ONNX against torch, {}: scores within {}, boxes within {} px".format(kind, *values)
