"""`edgekd check`: resolves a recipe and shows what a run would do, without doing it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

from edgekd.data.config import notices
from edgekd.detectors.class_matching import unknown_warnings
from edgekd.detectors.spec import Spec
from edgekd.devices.runs_here import runs_here
from edgekd.devices.tools.spec import without_agent
from edgekd.distill.config import EMA, MAIN, DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.errors import InputError
from edgekd.export.onnx_nms import end_to_end_problem
from edgekd.gate import baseline as releases
from edgekd.gate.policy import check_names
from edgekd.run_dir import RunDir
from edgekd.stages import offline, schedules
from edgekd.stages.before_training import check_measurable, check_ready
from edgekd.stages.binding import Bound, bind_recipe
from edgekd.stages.check_words import head_words, weight_words
from edgekd.stages.context import Context
from edgekd.stages.estimate import estimate as estimates
from edgekd.stages.models import RunDetectors, build_detectors, quantization_detectors
from edgekd.stages.prepared_file import named_files
from edgekd.stages.storable import check_storable
from edgekd.stages.teachers import Side, make_teachers
from edgekd.stages.train import Trained, fit_plan
from edgekd.terminal import cell, print_lines, print_table
from edgekd.training.arguments import quantization_arguments, split_arguments
from edgekd.training.distillation import DistillationModule
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.loggers import require_installed

Also: TypeAlias = Callable[[Context, RunDetectors, bool], None]  # whether data and weights may be opened


def check_recipe(
    recipe: Path, overrides: tuple[str, ...], architecture_only: bool, dry_step: bool, estimate: bool, also: Also
) -> dict[str, Any]:
    """Build the models, bind everything, and describe it.

    Args:
        architecture_only: open no weights and no data (for recipes whose files lie on another machine).
        dry_step: run one training step on the CPU.
        estimate: make a few steps of each training, and say how long a run takes and what it needs.
        also: what rooms above refuse.

    Raises:
        InputError: one line per problem.
    """
    return check_bound(bind_recipe(recipe, overrides), architecture_only, dry_step, estimate, also)


def check_bound(bound: Bound, architecture_only: bool, dry_step: bool, estimate: bool, also: Also) -> dict[str, Any]:
    """As `check_recipe`, of a recipe that is bound."""
    if architecture_only and dry_step:
        raise InputError("check: --dry-step needs data and weights; leave out --architecture-only")
    with (
        tempfile.TemporaryDirectory() as scratch,
        RunDir.held(Path(scratch) / "run", bound.recipe.name, bound.base, bound.locked()) as run,
    ):
        context = Context(bound, run)
        data: Any = "not opened (--architecture-only)"
        if not architecture_only:
            data = {name: len(split.images) for name, split in context.data.splits.items()}
        pair = build_detectors(bound, (), 3, architecture_only=True) if architecture_only else context.pair
        check_budgets(bound, () if architecture_only else context.data.class_names)
        check_suppression(bound, pair)
        check_storable(bound, pair)
        also(context, pair, not architecture_only)
        if architecture_only:
            check_measurable(bound)
        else:
            check_loggers(bound)
            check_ready(context, prepare=False)
        result: dict[str, Any] = {
            "recipe": bound.recipe.name,
            "data": data,
            "student": _describe(pair.student.spec, pair.head),
            "teacher": _teacher(pair.teachers[MAIN]) if MAIN in pair.teachers else None,
            "teachers": {name: _teacher(side) for name, side in pair.teachers.items() if name not in (MAIN, EMA)},
            "classes": [asdict(match) for match in pair.classes],
            "warnings": _warnings(context, pair, with_data=not architecture_only),
            "distill": _methods(bound.distillers, pair),
            "knowledge": None if architecture_only else offline.described(context),
            "quantize": _quantize(bound, pair),
            "train": dict(bound.recipe.train),
            "targets": [target.name for target in bound.targets],
            "devices": [device.name for device in bound.devices],
            "without_agent": _without_agent(bound),
            "runs_here": {device.name: programs for device in bound.devices if (programs := runs_here(device))},
        }
        if dry_step:
            result["dry_step"] = _dry_step(context)
        if estimate and not architecture_only:
            result["estimate"] = estimates.of_a_check(context)
    return result


def _warnings(context: Context, pair: RunDetectors, *, with_data: bool) -> list[str]:
    unknown = [
        warning
        for side in pair.teachers.values()
        for warning in unknown_warnings(side.classes, side.detector.spec.name)
    ]
    found = notices(context.data.as_json()) if with_data else []
    early = schedules.in_the_warm_up(context.bound.distillers, context.bound.recipe.train)
    return [*unknown, *early, *(f"data: {sentence}" for sentence in found)]


def check_budgets(bound: Bound, class_names: tuple[str, ...]) -> None:
    """Refuse budgets that name an unknown artifact, device, class or release.

    Raises:
        InputError: one line per problem.
    """
    names = class_names or tuple(bound.gate.min_ap_per_class)  # without data, any class may exist
    targets, devices = [target.name for target in bound.targets], [device.name for device in bound.devices]
    problems = check_names(bound.gate, targets, devices, names, f"{bound.where}: gate")
    if problems:
        raise InputError(*problems)
    against = bound.gate.against
    if against:
        try:
            releases.load(Path(against.store), against.baseline)
        except InputError as error:
            raise InputError(*(f"{bound.where}: gate.against: {problem}" for problem in error.problems)) from None


def check_suppression(bound: Bound, pair: RunDetectors) -> None:
    """Refuse targets with an NMS in the graph for a student whose head needs none.

    Raises:
        InputError: one line per target.
    """
    end_to_end = pair.head == "one2one" or pair.student.spec.head.kind == "query"
    folded = [target for target in bound.targets if target.nms == "in_graph"]
    if end_to_end and folded:
        raise InputError(*(f"{bound.where}: {end_to_end_problem(target)}" for target in folded))


def check_loggers(bound: Bound) -> None:
    """Refuse loggers that are not installed.

    Raises:
        EnvironmentFault: one line per logger.
    """
    require_installed(split_arguments(bound.recipe.train)[1].loggers)


def print_check(result: dict[str, Any]) -> None:
    """Tables for people."""
    from rich.table import Table

    print_lines([f"recipe {result['recipe']} resolves"])
    sides = {"student": result["student"], "teacher": result["teacher"], **result["teachers"]}
    for side, spec in sides.items():
        if spec is None:
            continue
        head = f", head {spec['head']}" if spec["head"] else ""
        size = f"{spec['parameters'] / 1e6:.2f} M parameters" if spec["parameters"] else "no weights"
        title = f"{side}: {spec['name']}, {size}, {spec['head_kind']} head{head}, {head_words(spec)}"
        title += f", runtime {spec['runtime']}" if "runtime" in spec else ""
        table = Table("role", "path", "stride", "channels", title=cell(title), title_justify="left")
        for tap in spec["taps"]:
            table.add_row(*(cell(tap[key]) for key in ("role", "path", "stride", "channels")))
        print_table(table)
    if result["classes"]:
        _print_classes(result["classes"])
    _print_methods("distill", result["distill"])
    print_lines([result["knowledge"]] if result["knowledge"] else ())
    if result["quantize"]["mode"] == "qat":
        _print_quantize(result["quantize"])
    targets, devices = (", ".join(result[key]) or "none" for key in ("targets", "devices"))
    print_lines([f"targets: {targets}; devices: {devices}"])
    print_lines(f"{name}: {how}" for name, how in result["without_agent"].items())
    for name, programs in result["runs_here"].items():
        print_lines([f"{name}: its file makes this machine run {'; '.join(programs)}"])
    print_lines(f"warning: {warning}" for warning in result["warnings"])
    print_lines(estimates.lines(result["estimate"]) if "estimate" in result else ())
    for term in result.get("dry_step", {}).get("terms", ()):
        figures = f"value {term['value']:.4g}, gradient norm {term['gradient_norm']:.3g}, share {term['share']:.1%}"
        warning = f"  {term['warning']}" if term["warning"] else ""
        print_lines([f"dry step {term['term']}: {figures}{warning}"])


_HOW = {
    "exact": "same name",
    "folded": "same but for case, blanks, _ and -",
    "alias": "other spelling in COCO and VOC",
    "recipe": "teacher.classes",
    "ambiguous": "not matched",
    "none": "the teacher does not know it",
}


def _print_classes(classes: list[dict[str, Any]]) -> None:
    """Which class is taught from which of the teacher's."""
    from rich.table import Table

    table = Table("data", "teacher", "column", "how", title="classes", title_justify="left")
    for match in classes:
        how = "; ".join(part for part in (_HOW[match["how"]], match["note"]) if part)
        teacher, column = ("-", "-") if match["column"] is None else (match["teacher"], str(match["column"]))
        table.add_row(*(cell(text) for text in (match["name"], teacher, column, how)))
    print_table(table)


def _print_methods(title: str, methods: list[dict[str, Any]]) -> None:
    for entry in methods:
        pairs = "; ".join(f"{student} <- {teacher}" for student, teacher in entry["taps"]) or "head outputs"
        whom = "" if entry["teacher"] == MAIN else f" from {entry['teacher']}"
        print_lines([f"{title} {entry['method']}{whom} (weight {weight_words(entry)}): {pairs}"])


def _print_quantize(quantize: dict[str, Any]) -> None:
    taught = f"taught by the {'float student' if quantize['teacher'] == 'student' else 'teacher'}"
    epochs = f"{quantize['epochs']} epochs under fake quantisation"
    print_lines([f"quantize: {epochs}, lr0 {quantize['lr0']:g}, {taught}"])
    _print_methods("quantize distill", quantize["distill"])


def _without_agent(bound: Bound) -> dict[str, str]:
    """target@device -> how it is measured where the agent does not run."""
    return {
        f"{target.name}@{device.name}": how
        for target in bound.targets
        for device in bound.devices
        if target.runtime in device.runtimes and (how := without_agent(target.runtime, device))
    }


def _teacher(side: Side) -> dict[str, Any]:
    """A teacher, and how it is run while it teaches."""
    running = {"runtime": side.runtime, "precision": side.recipe.precision if side.recipe else None}
    return _describe(side.detector.spec, None) | running


def _describe(spec: Spec, head: str | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "family": spec.family,
        "parameters": spec.parameters,
        "head_kind": spec.head.kind,
        "head": head,
        "head_facts": asdict(spec.head),
        "branches": list(spec.branches),
        "classes": len(spec.class_names),
        "taps": [asdict(tap) for tap in spec.taps],
    }


def _methods(methods: Sequence[tuple[str, DistillerConfig]], pair: RunDetectors) -> list[dict[str, Any]]:
    return [
        {"method": name, **config.model_dump(mode="json"), "taps": _taps(name, config, pair)}
        for name, config in methods
    ]


def _quantize(bound: Bound, pair: RunDetectors) -> dict[str, Any]:
    """The section as it is resolved; what is for training alone has no meaning in mode ptq."""
    recipe = bound.recipe.quantize
    if recipe.mode == "ptq":
        return {"mode": "ptq"}
    second = quantization_detectors(bound, pair, pair.student)
    return {
        **recipe.model_dump(mode="json"),
        "distill": _methods(bound.quantize_distillers, second),
        "train": quantization_arguments(bound.recipe.train, recipe),
    }


def _taps(name: str, config: DistillerConfig, pair: RunDetectors) -> list[tuple[str, str]]:
    wiring = distiller_type(name)(config, pair.of_methods(config.teacher)).wiring
    student, teacher = ([tap.key for tap in side.taps] for side in (wiring.student, wiring.teacher))
    return list(zip(student, teacher, strict=False))


def _dry_step(context: Context) -> dict[str, Any]:
    """One real training step (an epoch of one batch) on the CPU; returns the first-steps report."""
    import torch

    plan = fit_plan(context, Trained("student"))
    images = max(int(plan.train.get("batch", 16)), 2)  # 1 would mean all of them
    one_batch = {"epochs": 1, "fraction": images, "device": "cpu", "amp": False, "cache": False}
    plan = replace(plan, train={**plan.train, **one_batch}, validated=False, prepared=named_files(context.bound))
    plan = replace(plan, views=None)  # the teacher itself is asked
    here = torch.device("cpu")
    teachers = make_teachers(plan.distillers, context.pair.teachers, here)
    trainer = make_trainer(plan, teachers, context.path / "engine")
    trainer.train()
    return trainer.model.balance.report() if isinstance(trainer.model, DistillationModule) else {"terms": []}
