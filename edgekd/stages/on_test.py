"""Stage test: AP of teacher, control and student on the test split, once all training and choosing is over.

What was chosen on val (a checkpoint, a seed, weights of terms) flatters itself there; figures on test are for whoever
asks what was really gained.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from edgekd import ranks
from edgekd.atomic import read_json, write_json
from edgekd.distill.config import MAIN
from edgekd.progress import say
from edgekd.report.numbers import gain_words
from edgekd.stages import seeds
from edgekd.stages.context import Context
from edgekd.stages.seeds import pairs_of, roles, trained_models
from edgekd.stages.torch_accuracy import measure_in_torch, teacher_measuring
from edgekd.stages.train import Trained, accuracy_inputs, load_trained

SCHEMA = "edgekd.test/1"
FILE = "test.json"
_ROOT = "test/"
_SHOWN = ("ap", "ap50", "ap75")


def test_stage(context: Context) -> None:
    """Measure on test, where the data has it; nothing is judged by that."""
    if "test" not in context.data.splits:
        return
    recipe = context.bound.recipe
    measured = {}
    if recipe.teacher is not None:
        measured[MAIN] = _measure_teacher(context)
    for role in roles(recipe):
        for model in trained_models(recipe, role):
            measured[model.stage] = _measure(context, model)
    context.stage("test", {"measured": measured, "seeds": list(recipe.seeds)}, lambda: _write(context), together=True)


def _measure_teacher(context: Context) -> str:
    side = context.pair.teachers[MAIN]

    def measure() -> list[str]:
        return measure_in_torch(
            context, side.detector, side.head, MAIN, columns=side.columns, split="test", root=_ROOT
        )[1]

    context.stage("test/teacher", teacher_measuring(context), measure, together=True)
    return context.run.output_hash("test/teacher", f"{_ROOT}validate/teacher@host.json")


def _measure(context: Context, model: Trained) -> str:
    def measure(root: str) -> list[str]:
        detector = load_trained(context, model)
        return measure_in_torch(context, detector, context.pair.head, model.role, split="test", root=root)[1]

    root, stage = f"{_ROOT}{model.root}", f"test/{model.stage}"
    context.stage(stage, accuracy_inputs(context, model), partial(measure, root), together=True)
    return context.run.output_hash(stage, f"{root}validate/{model.role}@host.json")


def _write(context: Context) -> list[str]:
    """One small file with all of it."""
    if not ranks.is_main():
        return []
    recipe = context.bound.recipe

    def figures(role: str, root: str) -> dict[str, Any]:
        found = read_json(context.path / _ROOT / root / "validate" / f"{role}@host.json")
        return {key: found[key] for key in _SHOWN}

    roots = [model.root for model in trained_models(recipe, "student")]
    pairs = pairs_of(recipe, [{role: figures(role, root)["ap"] for role in roles(recipe)} for root in roots])
    selected = read_json(context.path / seeds.FILE)["selected"] if recipe.seeds else None
    models = {role: figures(role, Trained(role, selected).root) for role in roles(recipe)}
    if recipe.teacher is not None:
        models = {MAIN: figures(MAIN, ""), **models}
    images = len(context.data.splits["test"].images)
    write_json(context.path / FILE, {"schema": SCHEMA, "images": images, "models": models, **pairs})
    gain = f"; gain {gain_words(pairs['gain'])}" if pairs["gain"] else ""
    said = ", ".join(f"{role} {found['ap']:.3f}" for role, found in models.items())
    say(f"test: AP {said} on {images} images{gain}")
    return [FILE]
