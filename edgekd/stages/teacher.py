"""Stage teacher: the AP of every teacher, before a single step is trained."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from edgekd import ranks
from edgekd.atomic import write_json
from edgekd.detectors.class_map import columns_of
from edgekd.detectors.class_matching import unknown_warnings
from edgekd.distill.config import MAIN
from edgekd.progress import say
from edgekd.stages.binding import hash_of_weights
from edgekd.stages.context import Context
from edgekd.stages.teachers import recipes_of, teacher_inputs
from edgekd.stages.torch_accuracy import measure_in_torch, measuring


def teacher_stage(context: Context) -> None:
    """Validate every teacher on val and print its AP, before a single step is trained."""
    recipe = context.bound.recipe
    for name, teacher in recipes_of(recipe).items():
        weights_hash = hash_of_weights(context.bound.weights_path(teacher))
        inputs = {
            # how it teaches is not in it, and what it is opened from by its content
            "teacher": {key: value for key, value in teacher.computing.items() if key not in ("runtime", "precision")},
            "columns": columns_of(context.pair.teachers[name].classes),
            "weights": weights_hash,
            **measuring(context),
        }
        stage = "teacher" if name == MAIN else f"teacher/{name}"
        action = partial(_validate_teacher, context, name, weights_hash)
        context.stage(stage, inputs, action, together=True)
    for name in recipe.ensembles:
        inputs = {**teacher_inputs(context.bound, (), context.pair.teachers, (name,)), **measuring(context)}
        context.stage(f"teacher/{name}", inputs, partial(_validate_teacher, context, name, None), together=True)


def _validate_teacher(context: Context, name: str, weights_hash: str | None) -> list[str]:
    side = context.pair.teachers[name]
    detector, classes = side.detector, side.classes
    for warning in unknown_warnings(classes, detector.spec.name):
        say(f"warning: {warning}")
    title = "teacher" if name == MAIN else f"teacher.{name}"
    summary, written = measure_in_torch(context, detector, side.head, title, columns=side.columns)
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
