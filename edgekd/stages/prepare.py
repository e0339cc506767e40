"""Stages prepare/<label>: what methods train of their own before any student, kept for all students."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgekd import ranks
from edgekd.data import train_view
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.ranks import agreement
from edgekd.stages.context import Context
from edgekd.stages.teachers import Methods, make_teachers, teacher_inputs
from edgekd.training.arguments import split_arguments
from edgekd.training.distillers import build_distillers, labels
from edgekd.training.engines.process import PACKAGES
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.preparation import ARGUMENTS, FILE, PreparedPart
from edgekd.training.resume import FILE as STATE
from edgekd.training.resume import Resume


def prepared(context: Context, methods: Methods) -> dict[str, Path]:
    """Do the preparations that these methods have, or find them done.

    Returns:
        label of a method -> the weights that were left.
    """
    named = zip(labels([name for name, _ in methods]), methods, strict=True)
    return {
        label: _prepared(context, label, name, config)
        for label, (name, config) in named
        if distiller_type(name).prepares
    }


def prepared_inputs(context: Context, weights: Mapping[str, Path]) -> dict[str, Any]:
    """Of the stage of a student that learns through them; empty without any."""
    hashes = {label: _hash(context, label) for label in weights}
    return {"prepared": hashes} if hashes else {}


def _prepared(context: Context, label: str, name: str, config: DistillerConfig) -> Path:
    """One of them. It knows nothing of the student, so that any student finds it done."""
    recipe, bound, sides = context.bound.recipe, context.bound, context.pair.teachers
    methods = ((name, config),)
    pair = context.pair.of_methods(config.teacher)
    preparation = distiller_type(name)(config, replace(pair, student=pair.teacher)).preparation()
    train, own = split_arguments(recipe.train)
    arguments = {**train, **ARGUMENTS, **preparation.train}
    content = config.model_dump(mode="json")
    inputs: dict[str, Any] = {
        "method": name,
        "config": {key: content[key] for key in preparation.depends_on},
        "train": arguments,
        "seed": recipe.seed,
        "threads": recipe.threads,
        **teacher_inputs(bound, methods, sides),
    }
    if ranks.size() > 1:
        inputs["world_size"] = ranks.size()
    stage = f"prepare/{label}"
    identity = {**context.with_common(stage, inputs), **{package: version(package) for package in PACKAGES}}
    resume = Resume(context.path / stage / STATE, identity, own.checkpoint_minutes, context.allow_changed)

    def action() -> list[str]:
        teachers = make_teachers(methods, sides)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            (part,) = build_distillers(methods, pair.teacher, teachers)
        plan = FitPlan(
            student=PreparedPart(part, teachers[config.teacher], pair.teacher, recipe.seed),
            initialised=False,
            data_yaml=ranks.on_main(lambda: train_view.write(context.data, context.path / "data" / "train_view")),
            train=arguments,
            head=None,
            seed=recipe.seed,
            threads=recipe.threads,
            own=own,
            compared=True,
            validated=False,
            file=FILE,
        )
        fit(plan, {}, context.path / stage, f"preparing {label}", resume)
        context.require_same_data(f"{label} was prepared")
        return [f"{stage}/{FILE}", f"{stage}/epochs.csv"]

    context.stage(stage, inputs, action, together=True)
    resume.remove()
    file = context.path / stage / FILE
    agreement.await_file(file, _hash(context, label))
    return file


def _hash(context: Context, label: str) -> str:
    return context.run.output_hash(f"prepare/{label}", f"prepare/{label}/{FILE}")
