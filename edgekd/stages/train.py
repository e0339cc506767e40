"""Stages teacher, baseline and student: validate the teacher, train the control, distil the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekd.atomic import sha256_file, write_json
from edgekd.data import train_view
from edgekd.detectors.contract import ClassMap
from edgekd.detectors.ultralytics import UltralyticsDetector
from edgekd.progress import say
from edgekd.stages.accuracy import Stopwatch, detect_in_torch, summarise, write_accuracy
from edgekd.stages.context import Context
from edgekd.stages.models import warn_unknown_classes
from edgekd.training.fit import FitPlan, FitResult, fit
from edgekd.training.teacher import Teacher


def teacher_stage(context: Context) -> None:
    """Validate the teacher on val and print its AP, before a single step is trained."""
    recipe = context.bound.recipe
    if recipe.teacher is None:
        return
    weights = context.bound.weights_path(recipe.teacher)
    inputs = {
        "teacher": recipe.teacher.model_dump(), "validate": recipe.validate_.model_dump(), "size": list(context.size_px),
        "weights": sha256_file(weights) if weights and weights.is_file() else None,
    }  # fmt: skip
    outputs = ["teacher/teacher.json", "validate/teacher@host.json"]
    context.stage("teacher", inputs, outputs, lambda: _validate_teacher(context, inputs["weights"]))


def baseline_stage(context: Context) -> None:
    """Train the control: the same student, data, seed and batches, no teacher."""
    if context.bound.recipe.baseline:
        _train_stage(context, "baseline")


def student_stage(context: Context) -> None:
    """Train the student, with every distiller of the recipe."""
    _train_stage(context, "student")


def fit_plan(context: Context, name: str) -> FitPlan:
    """What decides the weights of `student` or `baseline`."""
    recipe, pair = context.bound.recipe, context.pair
    return FitPlan(
        student=pair.student,
        initialised=pair.initialised,
        data_yaml=train_view.write(context.data, context.path / "data" / "train_view"),
        train=recipe.train,
        head=pair.head,
        seed=recipe.seed,
        threads=recipe.threads,
        distillers=context.bound.distillers if name == "student" else (),
        class_names=context.data.class_names,
    )


def load_trained(context: Context, name: str) -> UltralyticsDetector:
    """The detector that `student` or `baseline` left behind."""
    path = context.path / name / "student.pt"
    return UltralyticsDetector.from_recipe(context.pair.student.spec.name, path, None, context.data.channels, name)


def _train_stage(context: Context, name: str) -> None:
    recipe = context.bound.recipe
    distilling = name == "student" and bool(recipe.distill)
    student_weights = context.bound.weights_path(recipe.student)
    inputs: dict[str, Any] = {
        "student": recipe.student.model_dump(), "train": recipe.train, "seed": recipe.seed, "threads": recipe.threads,
        "validate": recipe.validate_.model_dump(),
        "initial": sha256_file(student_weights) if student_weights and student_weights.is_file() else None,
    }  # fmt: skip
    if distilling:
        inputs["distill"] = [[method, config.model_dump(mode="json")] for method, config in context.bound.distillers]
        inputs["teacher"] = context.run.output_hash("teacher", "teacher/teacher.json")
    outputs = [f"{name}/student.pt", f"{name}/metrics.json", f"{name}/epochs.csv", f"validate/{name}@host.json"]
    outputs += [f"{name}/terms.csv", f"{name}/first_steps.json"] if distilling else []
    context.stage(name, inputs, outputs, lambda: _train(context, name, distilling))


def _train(context: Context, name: str, distilling: bool) -> None:
    teacher = None
    if distilling:
        assert context.pair.teacher is not None
        teacher = Teacher(context.pair.teacher.frozen(), context.data.class_names)
    title = "training the control" if name == "baseline" else "distilling the student" if distilling else "training the student"
    result = fit(fit_plan(context, name), teacher, context.path / name, title)
    summary = _validate(context, load_trained(context, name), name)
    _write_metrics(context, name, result, summary)
    say(f"{name}: AP {summary['ap']:.3f}, AP50 {summary['ap50']:.3f} on val ({result.epochs} epochs, {result.seconds:.0f} s)")


def _write_metrics(context: Context, name: str, result: FitResult, summary: dict[str, Any]) -> None:
    spec = context.pair.student.spec
    content = {
        "name": spec.name, "parameters": spec.parameters, "weights_sha256": sha256_file(result.weights),
        "head": context.pair.head, "epochs": result.epochs, "seconds": round(result.seconds, 1),
        **{key: value for key, value in summary.items() if key not in ("images", "settings")},
    }  # fmt: skip
    write_json(context.path / name / "metrics.json", content)


def _validate_teacher(context: Context, weights_hash: str | None) -> None:
    detector = context.pair.teacher
    assert detector is not None
    known = warn_unknown_classes(detector.spec, context.data.class_names)
    class_map = ClassMap.by_name(detector.spec.class_names, context.data.class_names)
    same = detector.spec.class_names == context.data.class_names
    columns = None if same else np.where(class_map.known.numpy(), class_map.index.numpy(), -1)
    summary = _validate(context, detector, "teacher", columns)
    spec = detector.spec
    write_json(context.path / "teacher" / "teacher.json", {
        "name": spec.name, "family": spec.family, "weights_sha256": weights_hash, "parameters": spec.parameters,
        "classes_known": known,
        "taps": [{"role": tap.role, "path": tap.path, "stride": tap.stride, "channels": tap.channels} for tap in spec.taps],
        **{key: summary[key] for key in ("ap", "ap50", "ap75")},
    })  # fmt: skip
    say(f"teacher {spec.name}: AP {summary['ap']:.3f}, AP50 {summary['ap50']:.3f} on val")


def _validate(
    context: Context, detector: UltralyticsDetector, name: str, columns: np.ndarray[Any, Any] | None = None
) -> dict[str, Any]:
    """AP in torch of the student's head, or the teacher's first branch."""
    head = context.pair.head if name != "teacher" else (detector.spec.branches[0] if detector.spec.branches else None)
    watch, settings, split = Stopwatch(), context.bound.recipe.validate_, context.data.splits["val"]
    found = detect_in_torch(detector, head, context.pack(), columns, settings, f"validating the {name}")
    summary = summarise(split, found, context.data.class_names, settings, head)
    write_accuracy(context.path, name, "host", summary, split, found, watch.seconds())
    return summary


