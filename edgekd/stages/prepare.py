"""Stages prepare/<label>: what methods train of their own before any student, kept for all students."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgekd import ranks
from edgekd.atomic import atomic_path, read_json, sha256_file, write_json
from edgekd.data import train_view
from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.distill.preparation import Preparation
from edgekd.progress import say
from edgekd.ranks import agreement
from edgekd.stages.context import Context
from edgekd.stages.models import check_runtime
from edgekd.stages.prepared_file import check_prepared, description, file_of
from edgekd.stages.teachers import Methods, make_teachers, teacher_inputs
from edgekd.stages.torch_accuracy import measure_in_torch, measuring
from edgekd.training.arguments import split_arguments
from edgekd.training.distillers import build_distillers, labels
from edgekd.training.engines.process import PACKAGES
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.preparation import ARGUMENTS, FILE, PreparedPart, read
from edgekd.training.resume import FILE as STATE
from edgekd.training.resume import Resume


@dataclass(frozen=True)
class _Task:
    """One method's preparation in a run. It knows nothing of the student, so that any student finds it done."""

    context: Context
    label: str
    name: str
    config: DistillerConfig

    @property
    def stage(self) -> str:
        return f"prepare/{self.label}"

    @property
    def methods(self) -> Methods:
        return ((self.name, self.config),)

    @property
    def hash(self) -> str:
        return self.context.run.output_hash(self.stage, f"{self.stage}/{FILE}")

    def teacher_inputs(self) -> dict[str, Any]:
        return teacher_inputs(self.context.bound, self.methods, self.context.pair.teachers)

    def preparation(self) -> Preparation:
        pair = self.context.pair.of_methods(self.config.teacher)
        return distiller_type(self.name)(self.config, replace(pair, student=pair.teacher)).preparation()

    def part(self, weights: Path | None = None) -> PreparedPart:
        """What is trained; with weights, as it was left."""
        recipe, pair = self.context.bound.recipe, self.context.pair.of_methods(self.config.teacher)
        teachers = make_teachers(self.methods, self.context.pair.teachers)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            named = {} if weights is None else {self.name: weights}
            (method,) = build_distillers(self.methods, pair.teacher, teachers, named)
        header = description(self.context, self.name, self.config, method.preparation())
        return PreparedPart(method, teachers[self.config.teacher], pair.teacher, recipe.seed, header)


def prepare_stage(context: Context) -> None:
    """Prepare every method of the recipe that wants it."""
    if any(_tasks(context, context.bound.distillers)):
        check_runtime(context.bound)
        check_prepared(context)
        prepared(context, context.bound.distillers)


def prepared(context: Context, methods: Methods) -> dict[str, Path]:
    """Do the preparations that the recipe's methods have, or find them done; once in a command.

    Returns:
        label of a method -> the weights that were left.
    """
    for task in _tasks(context, methods):
        if task.label not in context.prepared:
            context.prepared[task.label] = _prepared(task)
    return context.prepared


def prepared_inputs(context: Context, weights: Mapping[str, Path]) -> dict[str, Any]:
    """Of the stage of a student that learns through them; empty without any."""
    hashes = {label: context.run.output_hash(f"prepare/{label}", f"prepare/{label}/{FILE}") for label in weights}
    return {"prepared": hashes} if hashes else {}


def _tasks(context: Context, methods: Methods) -> Iterator[_Task]:
    for label, (name, config) in zip(labels([name for name, _ in methods]), methods, strict=True):
        if distiller_type(name).prepares:
            yield _Task(context, label, name, config)


def _prepared(task: _Task) -> Path:
    """One of them, and the AP that it reaches by itself."""
    given = file_of(task.context.bound, task.config)
    _train(task) if given is None else _take(task, given)
    file = task.context.path / task.stage / FILE
    agreement.await_file(file, task.hash)
    _measure(task, file)
    return file


def _take(task: _Task, given: Path) -> None:
    """What an earlier run left; `check_prepared` has seen that it belongs here."""
    context, file = task.context, f"{task.stage}/{FILE}"

    def action() -> list[str]:
        ranks.on_main(lambda: _copy(given, context.path / file))
        return [file]

    context.stage(task.stage, {"given": sha256_file(given)}, action, together=True)


def _copy(given: Path, file: Path) -> None:
    with atomic_path(file) as temporary:
        shutil.copyfile(given, temporary)


def _train(task: _Task) -> None:
    context, stage = task.context, task.stage
    recipe, preparation = context.bound.recipe, task.preparation()
    train, own = split_arguments(recipe.train)
    arguments = {**train, **ARGUMENTS, **preparation.train}
    content = task.config.model_dump(mode="json")
    inputs: dict[str, Any] = {
        "method": task.name,
        "config": {key: content[key] for key in preparation.depends_on},
        "train": arguments,
        "seed": recipe.seed,
        "threads": recipe.threads,
        **task.teacher_inputs(),
    }
    if ranks.size() > 1:
        inputs["world_size"] = ranks.size()
    identity = {**context.with_common(stage, inputs), **{package: version(package) for package in PACKAGES}}
    resume = Resume(context.path / stage / STATE, identity, own.checkpoint_minutes, context.allow_changed)

    def action() -> list[str]:
        plan = FitPlan(
            student=task.part(),
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
        result = fit(plan, {}, context.path / stage, f"preparing {task.label}", resume)
        context.require_same_data(f"{task.label} was prepared")
        if ranks.is_main():
            facts = {"epochs": result.epochs, "seconds": round(result.seconds, 1), "parameters": _size(result.weights)}
            write_json(context.path / stage / "training.json", facts)
        return [f"{stage}/{name}" for name in (FILE, "epochs.csv", "training.json")]

    context.stage(stage, inputs, action, together=True)
    resume.remove()


def _size(weights: Path) -> int:
    return sum(value.numel() for value in read(weights).values())


def _measure(task: _Task, file: Path) -> None:
    """Stage accuracy/prepare/<label>: the AP of what the module itself detects, beside the teacher's."""
    context, teacher = task.context, f"teacher/{task.config.teacher}.json"
    if task.preparation().detections is None:
        return

    def action() -> list[str]:
        name = f"prepared.{task.label}"
        summary, written = measure_in_torch(context, task.part(file), None, name)
        if not ranks.is_main():
            return []
        beside = context.path / teacher
        ap = read_json(beside)["ap"] if beside.is_file() else None
        content = {**{key: summary[key] for key in ("ap", "ap50", "ap75")}, "teacher_ap": ap}
        write_json(context.path / task.stage / "metrics.json", content)
        compared = "" if ap is None else f", the teacher's {ap:.3f}"
        say(f"{task.label}: AP {summary['ap']:.3f} on val of what was absorbed{compared}")
        return [f"{task.stage}/metrics.json", *written]

    inputs = {"weights": task.hash, **task.teacher_inputs(), **measuring(context)}
    context.stage(f"accuracy/{task.stage}", inputs, action, together=True)
