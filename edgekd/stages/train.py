"""Stages teacher, control and student: validate the teacher, train the control, distil the student.

What a stage that trains has in common with the others is `train_stage`; `quantize.py` uses it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgekd import ranks
from edgekd.atomic import read_json, sha256_file, sha256_json, write_json
from edgekd.data import train_view
from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap, columns_of
from edgekd.detectors.class_matching import unknown_warnings
from edgekd.detectors.contract import Asked, Detector, Family, Trainable
from edgekd.distill.config import MAIN
from edgekd.progress import say
from edgekd.ranks import agreement
from edgekd.report.warn import comparison
from edgekd.stages import schedules
from edgekd.stages.accuracy import Stopwatch, detect_in_torch, summarise, write_accuracy
from edgekd.stages.binding import file_hash
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime
from edgekd.stages.teachers import make_teachers, recipes_of, teacher_inputs
from edgekd.training.arguments import split_arguments
from edgekd.training.engines.placement import torch_device
from edgekd.training.engines.process import PACKAGES
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import AnyTeacher


def teacher_stage(context: Context) -> None:
    """Validate every teacher on val and print its AP, before a single step is trained."""
    recipe = context.bound.recipe
    for name, teacher in recipes_of(recipe).items():
        weights_hash = file_hash(context.bound.weights_path(teacher))
        inputs = {
            "teacher": teacher.model_dump(exclude={"runtime", "precision", "classes"}),  # the first: of teaching
            "columns": columns_of(context.pair.teachers[name].classes),
            "validate": recipe.validate_.model_dump(),
            "size": list(context.size_px),
            "weights": weights_hash,
        }
        stage = "teacher" if name == MAIN else f"teacher/{name}"
        action = partial(_validate_teacher, context, name, weights_hash)
        context.stage(stage, inputs, action, together=True)


def control_stage(context: Context) -> None:
    """Train the control: the same student, data, seed and batches, no teacher."""
    if context.bound.recipe.control:
        _train_stage(context, "control")


def student_stage(context: Context) -> None:
    """Train the student, with every distiller of the recipe."""
    _train_stage(context, "student")


@dataclass(frozen=True)
class Training:
    """A training, ready to begin.

    Attributes:
        teachers: by name; empty trains without one.
        title: of its progress bar.
    """

    plan: FitPlan
    teachers: Mapping[str, AnyTeacher]
    title: str


def train_stage(context: Context, name: str, inputs: dict[str, Any], prepare: Callable[[], Training]) -> None:
    """Stages `name` and `accuracy/<name>`: train, resumably, and measure what came out.

    Args:
        inputs: everything that decides the weights.
        prepare: builds what is needed, if there is something to train.
    """
    if ranks.size() > 1:  # decides which images share a batch norm
        inputs = {**inputs, "world_size": ranks.size()}
    resume = _resume(context, name, inputs)
    context.stage(name, inputs, lambda: _train(context, name, prepare(), resume), together=True)
    resume.remove()
    measured = accuracy_inputs(context, name)
    context.stage(f"accuracy/{name}", measured, lambda: _measure(context, name), together=True)


def accuracy_inputs(context: Context, name: str) -> dict[str, Any]:
    """What decides the AP of a trained model."""
    return {
        "weights": context.run.output_hash(name, weights_name(context, name)),
        "validate": context.bound.recipe.validate_.model_dump(),
        "size": list(context.size_px),
    }


def fit_plan(context: Context, name: str) -> FitPlan:
    """What decides the weights of `student` or `control`."""
    recipe, pair = context.bound.recipe, context.pair
    train, own = split_arguments(recipe.train)
    return FitPlan(
        student=pair.student,
        initialised=pair.initialised,
        data_yaml=ranks.on_main(lambda: train_view.write(context.data, context.path / "data" / "train_view")),
        train=train,
        own=own,
        head=pair.head,
        seed=recipe.seed,
        threads=recipe.threads,
        distillers=context.bound.distillers if name == "student" else (),
        compared=bool(recipe.distill),
    )


def load_trained(context: Context, name: str) -> Trainable:
    """The detector that `student` or `control` left behind."""
    spec, path = context.pair.student.spec, context.path / weights_name(context, name)
    asked = Asked(spec.name, path, (), context.data.channels, name)
    return families.trainable(families.open_detector(spec.family, asked), name)


def weights_name(context: Context, name: str) -> str:
    """The file below the run directory that holds the weights of `student` or `control`."""
    return f"{name}/{_family(context).student_files[0]}"


def _family(context: Context) -> Family:
    return families.family(context.pair.student.spec.family)


def _train_stage(context: Context, name: str) -> None:
    recipe = context.bound.recipe
    distilling = name == "student" and bool(recipe.distill)
    inputs: dict[str, Any] = {
        "student": recipe.student.model_dump(),
        "architecture": file_hash(Path(recipe.student.model)) if recipe.student.model else None,
        "initial": file_hash(context.bound.weights_path(recipe.student)),
        "train": split_arguments(recipe.train)[0],
        "seed": recipe.seed,
        "threads": recipe.threads,
    }
    if distilling:
        inputs["distill"] = [[method, config.model_dump(mode="json")] for method, config in context.bound.distillers]
        inputs |= teacher_inputs(context.bound, context.bound.distillers, context.pair.teachers)
    train_stage(context, name, inputs, lambda: _prepare(context, name, distilling))


def _prepare(context: Context, name: str, distilling: bool) -> Training:
    check_runtime(context.bound)  # before the control is trained, too
    for warning in schedules.in_the_warm_up(context.bound.distillers, context.bound.recipe.train) if distilling else ():
        say(f"warning: {warning}")
    teachers = make_teachers(context.bound.distillers, context.pair.teachers) if distilling else {}
    title = "distilling the student" if distilling else f"training the {name}"
    return Training(fit_plan(context, name), teachers, title)


def _resume(context: Context, name: str, inputs: dict[str, Any]) -> Resume:
    """The saved state of a training that was stopped: of this very training, or the user is asked."""
    versions = {package: version(package) for package in dict.fromkeys((*PACKAGES, *_family(context).packages))}
    identity = {**context.with_common(name, inputs), **versions, "world_size": ranks.size()}
    minutes = split_arguments(context.bound.recipe.train)[1].checkpoint_minutes
    return Resume(context.path / name / FILE, identity, minutes, context.allow_changed)


def _train(context: Context, name: str, training: Training, resume: Resume) -> list[str]:
    result = fit(training.plan, training.teachers, context.path / name, training.title, resume)
    context.require_same_data(f"the {name} was trained")
    effort = {
        "epochs": result.epochs,
        "seconds": round(result.seconds, 1),
        "saving_seconds": round(result.saving_seconds, 2),
    }
    if ranks.is_main():
        write_json(context.path / name / "training.json", effort)
    taught = ["terms.csv", "first_steps.json"] if training.teachers else []
    own = ["training.json", "epochs.csv", *taught]
    return [weights_name(context, name), *(f"{name}/{file}" for file in own)]


def _measure(context: Context, name: str) -> list[str]:
    """AP of what was trained, beside it: measured apart, so that another threshold costs no training."""
    file = weights_name(context, name)
    agreement.await_file(context.path / file, context.run.output_hash(name, file))
    detector = load_trained(context, name)
    summary, written = _validate(context, detector, name)
    if not ranks.is_main():
        return []
    effort = read_json(context.path / name / "training.json")
    _write_metrics(context, name, effort, summary)
    _publish(context, name, detector, summary)
    spent = f"{effort['epochs']} epochs, {effort['seconds']:.0f} s"
    say(f"{name}: AP {summary['ap']:.3f}, AP50 {summary['ap50']:.3f} on val ({spent})")
    if name == "student":
        _warn(context, summary["ap"])
    published = [f"{name}/{file}" for file in _family(context).student_files[1:]]
    return [f"{name}/metrics.json", *published, *written]


def _warn(context: Context, student: float) -> None:
    """Where the comparison is not what one hopes for."""
    recipe = context.bound.recipe
    teacher = read_json(context.path / "teacher" / "teacher.json")["ap"] if recipe.teacher else None
    control = read_json(context.path / "control" / "metrics.json")["ap"] if recipe.control else None
    for warning in comparison(teacher, control, student):
        say(f"warning: {warning}")


def _write_metrics(context: Context, name: str, effort: dict[str, Any], summary: dict[str, Any]) -> None:
    spec = context.pair.student.spec
    content = {
        "name": spec.name,
        "parameters": spec.parameters,
        "weights_sha256": sha256_file(context.path / weights_name(context, name)),
        "head": context.pair.head,
        **effort,
        **{key: value for key, value in summary.items() if key not in ("images", "settings")},
    }
    write_json(context.path / name / "metrics.json", content)


def _publish(context: Context, name: str, detector: Trainable, summary: dict[str, Any]) -> None:
    """The weights beside what was measured of them, fit to be the teacher of another recipe."""
    facts = {
        "recipe": context.bound.recipe.name,
        "recipe_sha256": sha256_json(context.bound.recipe.model_dump(mode="json", by_alias=True)),
        "data": context.data_identity["splits"],
        **{key: round(summary[key], 4) for key in ("ap", "ap50")},
    }
    detector.publish(context.path / name, facts)


def _validate_teacher(context: Context, name: str, weights_hash: str | None) -> list[str]:
    side = context.pair.teachers[name]
    detector, classes = side.detector, side.classes
    for warning in unknown_warnings(classes, detector.spec.name):
        say(f"warning: {warning}")
    same = ClassMap.of(classes).is_identity(len(detector.spec.class_names))
    columns = None if same else np.array(columns_of(classes))
    title = "teacher" if name == MAIN else f"teacher.{name}"
    summary, written = _validate(context, detector, title, columns)
    if not ranks.is_main():
        return []
    spec = detector.spec
    content = {
        "name": spec.name,
        "family": spec.family,
        "weights_sha256": weights_hash,
        "parameters": spec.parameters,
        "classes_known": sum(match.column is not None for match in classes),
        "classes": [asdict(match) for match in classes],
        "taps": [asdict(tap) for tap in spec.taps],
        **{key: summary[key] for key in ("ap", "ap50", "ap75")},
    }
    file = f"teacher/{name}.json"
    write_json(context.path / file, content)
    say(f"{title} {spec.name}: AP {summary['ap']:.3f}, AP50 {summary['ap50']:.3f} on val")
    return [file, *written]


def _validate(
    context: Context, detector: Detector, name: str, columns: np.ndarray[Any, Any] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """AP in torch of the student's head, or the teacher's first branch; and the files that hold it.

    All ranks take part; rank 0 writes, and the others have nothing to say.
    """
    own = next(iter(detector.spec.branches), None)
    head = own if name.partition(".")[0] == MAIN else context.pair.head
    watch, settings, split = Stopwatch(), context.bound.recipe.validate_, context.data.splits["val"]
    title = f"validating the {name}"
    pack, device = ranks.on_main(context.pack), torch_device(context.bound.recipe.train.get("device"))
    agreement.await_file(pack.npy_path, pack.sha256)
    found = detect_in_torch(detector, head, pack=pack, columns=columns, settings=settings, title=title, device=device)
    if not ranks.is_main():
        return {}, []
    summary = summarise(split, found, context.data.class_names, settings, head)
    return summary, write_accuracy(
        context.path, f"{name}@host", summary, split=split, found=found, seconds=watch.seconds()
    )
