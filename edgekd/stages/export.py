"""Stage export: the student to every target, each compared with torch on real validation images."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from edgekd.atomic import sha256_file
from edgekd.detectors.contract import Detector
from edgekd.export.contract import QUANTIZATION_NAME, SIDECAR_NAME, Source, TargetSpec
from edgekd.export.parity import PARITY_NAME, require
from edgekd.export.targets import run_steps
from edgekd.progress import say
from edgekd.stages.context import Context
from edgekd.stages.quantization_images import material_for
from edgekd.stages.quantize import student_for
from edgekd.stages.train import Trained, load_trained, weights_name


def export_stage(context: Context) -> None:
    """Export to every target of the recipe."""
    targets = context.bound.targets
    if not targets:
        return
    for target in targets:
        context.stage(f"export/{target.name}", export_inputs(context, target), partial(_export, context, target))


def export_inputs(context: Context, target: TargetSpec) -> dict[str, Any]:
    """What decides an artifact."""
    student = student_for(context, target)
    student_hash = context.run.output_hash(student, weights_name(context, Trained(student)))
    head, size = context.bound.recipe.student.head, list(measured_size(target, context))
    return {"target": target.model_dump(mode="json"), "student": student_hash, "head": head, "size_px": size}


def measured_size(target: TargetSpec, context: Context) -> tuple[int, int]:
    """[H, W] at which an artifact is made, compared and measured."""
    return target.size if isinstance(target.size, tuple) else context.size_px


def source_for(context: Context, target: TargetSpec, detector: Detector) -> Source:
    """What the first step of a target starts from: a trained student, loaded."""
    return source_of(
        context,
        target,
        detector,
        sha256_file(context.path / weights_name(context, Trained(student_for(context, target)))),
    )


def source_of(context: Context, target: TargetSpec, detector: Detector, sha256: str) -> Source:
    """The same for any student, whose weights have that hash."""
    module: Any = detector.export_module(context.pair.head).eval()
    return Source(
        module=module,
        decode=module.decode,
        class_names=context.data.class_names,
        channels=context.data.channels,
        size_px=measured_size(target, context),
        size_multiple=detector.spec.size_multiple,
        sha256=sha256,
    )


def _export(context: Context, target: TargetSpec) -> list[str]:
    student = student_for(context, target)
    detector = load_trained(context, Trained(student))
    size = measured_size(target, context)
    source = source_for(context, target, detector)
    reference = detector if student == "student" else load_trained(context, Trained("student"))
    material = material_for(context, reference, size)
    artifact = run_steps(source, target, context.path / "export" / target.name, material)
    images = np.asarray(context.pack(size).arrays()[: target.parity_images])
    parity = require(source.module, artifact, images, target)
    size_mb = sum((artifact.folder / name).stat().st_size for name in artifact.sidecar.files) / 1e6
    difference = "not compared with torch"
    if parity["passed"] is not None:
        difference = f"scores within {parity['max_abs_score']:.1e} of torch on {len(images)} images"
    say(f"export {target.name}: {size_mb:.2f} MB, {difference}")
    notes = [name for name in (QUANTIZATION_NAME,) if (artifact.folder / name).is_file()]
    return [f"export/{target.name}/{name}" for name in (*artifact.sidecar.files, SIDECAR_NAME, PARITY_NAME, *notes)]
