"""Stage student_qat: the trained student goes on for a few epochs under fake quantisation, for the int8 targets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgekd.detectors.class_map import ClassMap
from edgekd.distill.config import MAIN
from edgekd.export.contract import TargetSpec
from edgekd.progress import say
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime, quantization_detectors
from edgekd.stages.teachers import make_teachers, teacher_inputs
from edgekd.stages.train import Trained, Training, fit_plan, load_trained, train_stage, weights_name
from edgekd.training.arguments import quantization_arguments
from edgekd.training.fake_quantization import Grid
from edgekd.training.teacher import AnyTeacher, Teacher

NAME = "student_qat"


def quantize_stage(context: Context) -> None:
    """Train the student to bear quantisation, if the recipe says `quantize: {mode: qat}`."""
    recipe, bound = context.bound.recipe, context.bound
    if recipe.quantize.mode != "qat":
        return
    if not any(target.precision == "int8" for target in bound.targets):
        say("warning: quantize: no target of the recipe is int8; the others are exported from the float student")
    inputs: dict[str, Any] = {
        "student": recipe.student.model_dump(mode="json"),
        "initial": context.run.output_hash("student", weights_name(context, Trained("student"))),
        "train": quantization_arguments(recipe.train, recipe.quantize),
        "grid": vars(_grid(context)),
        "seed": recipe.seed,
        "threads": recipe.threads,
        "distill": [[method, config.model_dump(mode="json")] for method, config in bound.quantize_distillers],
    }
    if recipe.quantize.teacher == "teacher":
        inputs |= teacher_inputs(bound, bound.quantize_distillers, context.pair.teachers)
    train_stage(context, Trained(NAME), inputs, lambda: _prepare(context))


def student_for(context: Context, target: TargetSpec) -> str:
    """Name of the student, and of the stage, whose weights a target is made from."""
    trained_on = context.bound.recipe.quantize.mode == "qat" and target.precision == "int8"
    return NAME if trained_on else "student"


def _prepare(context: Context) -> Training:
    recipe = context.bound.recipe
    check_runtime(context.bound)
    pair = quantization_detectors(context.bound, context.pair, load_trained(context, Trained("student")))
    teachers: dict[str, AnyTeacher] = {}
    if context.bound.quantize_distillers and recipe.quantize.teacher == "student":
        assert pair.teacher is not None
        same = ClassMap.identity(len(context.data.class_names))
        teachers = {MAIN: Teacher(pair.teacher.frozen(), same)}
    elif context.bound.quantize_distillers:
        teachers = make_teachers(context.bound.quantize_distillers, pair.teachers)
    plan = replace(
        fit_plan(context, Trained(NAME)),
        student=pair.student,
        initialised=True,
        inherited={},
        train=quantization_arguments(recipe.train, recipe.quantize),
        distillers=context.bound.quantize_distillers,
        compared=True,  # a halved batch, or weights from before, would not go with the ranges
        grid=_grid(context),
    )
    return Training(plan, teachers, "training the student for int8")


def _grid(context: Context) -> Grid:
    quantize = context.bound.recipe.quantize
    return Grid(
        symmetric=quantize.activations == "symmetric",
        float_predictions=quantize.predictions == "float",
        range_epochs=quantize.range_epochs,
        range_decay=quantize.range_decay,
        frozen_norms=quantize.batch_norms == "frozen",
    )
