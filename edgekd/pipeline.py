"""The stages in order: the table of contents of the program."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd import ranks
from edgekd.atomic import read_json
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.former_runs import is_former
from edgekd.gate.verdict import EXIT_CODES
from edgekd.measure.withheld import is_unusable
from edgekd.plain import word
from edgekd.progress import foreseen, say
from edgekd.run_dir import LOCKED_RECIPE, SEARCH, RunDir, require_recipe
from edgekd.stages import gate_and_report
from edgekd.stages.before_training import check_ready
from edgekd.stages.binding import Bound, bind_recipe
from edgekd.stages.bisect import bisect_target
from edgekd.stages.check import check_budgets, check_loggers, check_suppression
from edgekd.stages.context import Context
from edgekd.stages.data import data_stage
from edgekd.stages.estimate.estimate import forecast
from edgekd.stages.export import export_stage
from edgekd.stages.gate_and_report import gate_stage, report_stage
from edgekd.stages.knowledge import knowledge_stage
from edgekd.stages.offline import require_fitting
from edgekd.stages.on_device import profile_stage, validate_stage
from edgekd.stages.on_test import test_stage
from edgekd.stages.prepare import prepare_stage
from edgekd.stages.quantize import quantize_stage
from edgekd.stages.seeds import control_stage, student_stage
from edgekd.stages.storable import asked, check_storable
from edgekd.stages.summaries import show, show_verdict
from edgekd.stages.teacher import teacher_stage
from edgekd.training.engines.process import prepare

STAGES: dict[str, Callable[[Context], None]] = {
    "data": data_stage,  # images and labels, validated; a view for the engine
    "teacher": teacher_stage,  # its AP on val, before anything is trained
    "prepare": prepare_stage,  # what methods train of the teacher alone
    "knowledge": knowledge_stage,  # what it knows of every view, on a disk, where the recipe wants that
    "control": control_stage,  # the same student without a teacher
    "student": student_stage,  # the distilled student
    "student_qat": quantize_stage,  # the same, trained on for int8
    "test": test_stage,  # AP of teacher, control and student on the test split
    "export": export_stage,  # artifacts with sidecar and parity
    "validate": validate_stage,  # AP of each artifact on each device
    "profile": profile_stage,  # latency of each artifact on each device
    "gate": gate_stage,  # budgets -> verdict
    "report": report_stage,  # report.html, .md, .json
}


TOGETHER = {
    "teacher",
    "prepare",
    "knowledge",
    "control",
    "student",
    "student_qat",
    "test",
}  # all processes take part; rank 0 alone does the others


@dataclass(frozen=True)
class Outcome:
    """What a command shows.

    Attributes:
        result: for `--json`.
        text: for people.
        exit_code: the verdict's where the gate was asked, else 0.
    """

    result: Any
    text: str
    exit_code: int


def run(
    recipe: Path,
    out: Path,
    overrides: tuple[str, ...] = (),
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    turn_seconds: float = 0.0,
    last: str = "report",
) -> Outcome:
    """Do all stages up to `last`; what is done already is kept.

    Args:
        fresh: delete first what edgekd wrote there.
        allow_changed: go on from the saved state of a training that has changed since.
        turn_seconds: how long to wait for another run that is on a device.
    """
    options = [part for override in overrides for part in ("--set", override)]
    command = shlex.join(["edgekd", "run", str(recipe), "--out", str(out), *options])
    bound, ways = bind_recipe(recipe, overrides), {"fresh": fresh, "allow_changed": allow_changed}
    return run_bound(bound, out, command, turn_seconds=turn_seconds, last=last, **ways)


def run_bound(
    bound: Bound,
    out: Path,
    command: str,
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    turn_seconds: float = 0.0,
    last: str = "report",
) -> Outcome:
    """As `run`, of a recipe that is bound; `command` makes this run, for the report."""
    names = list(STAGES)
    stages = names[: names.index(last) + 1]
    if last == "prepare" and not any(distiller_type(name).prepares for name, _ in bound.distillers):
        known = ", ".join(name for name in distiller_names() if distiller_type(name).prepares)
        raise InputError(f"{bound.where}: distill: no method here has a preparation; of those that there are: {known}")
    if last == "knowledge" and asked(bound.recipe) is None:
        raise InputError(
            f"{bound.where}: teacher.knowledge: the teachers are asked in every step, so nothing is stored; write "
            "'disk' there, or give --set teacher.knowledge=disk"
        )
    return _do(bound, out, stages, fresh=fresh, allow_changed=allow_changed, turn_seconds=turn_seconds, command=command)


def again(
    path: Path, overrides: tuple[str, ...], stage: str, *, turn_seconds: float = 0.0, anew: bool = False
) -> Outcome:
    """Do one stage of an existing run directory, from its locked recipe. Overrides are kept if that succeeds.

    Args:
        turn_seconds: as in `run`.
        anew: profile what was profiled already.

    Raises:
        InputError: no run directory, or a stage before this one has not been done.
    """
    bound = _bound_again(path, overrides, needs_student=stage != "report")
    return _do(bound, path, [stage], turn_seconds=turn_seconds, anew=anew, afterwards=True)


def judge(path: Path, overrides: tuple[str, ...], *, save: bool = False) -> Outcome:
    """The verdict: by the recipe's budgets, kept; by others (overrides) kept only if asked to."""
    return what_if(path, overrides) if overrides and not save else again(path, overrides, "gate")


def what_if(path: Path, overrides: tuple[str, ...]) -> Outcome:
    """The verdict by other budgets. Nothing is written: neither recipe nor verdict.

    Raises:
        InputError: no run directory, nothing to judge yet, or files that are not what was measured.
    """
    bound = _bound_again(path, overrides, needs_student=True)
    if is_former(RunDir.existing(path).manifest):
        with RunDir.held(path, bound.recipe.name, bound.base, bound.locked()):
            pass  # takes it over
    prepare()  # the engine's settings in a temporary folder
    context = Context(bound, RunDir.existing(path))
    check_budgets(bound, context.data.class_names)
    verdict = gate_and_report.what_if(context)
    return Outcome(*show_verdict(verdict), EXIT_CODES[verdict["status"]])


def bisect(path: Path, overrides: tuple[str, ...], target: str, *, everything: bool = False) -> Outcome:
    """Look for where an artifact of an existing run directory departs from its student.

    Args:
        everything: show every node, not those alone that depart.

    Raises:
        InputError: no run directory, no such artifact, or one that shows no inner values.
    """
    bound = _bound_again(path, overrides, needs_student=True)
    with RunDir.held(path, bound.recipe.name, bound.base, bound.locked()) as run_dir:
        record, text = bisect_target(Context(bound, run_dir), target, everything=everything)
        run_dir.accept()
    return Outcome(record, text, 0)


def _bound_again(path: Path, overrides: tuple[str, ...], *, needs_student: bool) -> Bound:
    manifest = RunDir.existing(path).manifest
    _require_no_search(path, str(path), f"'edgekd search show {word(path)}' prints it")
    if needs_student and "accuracy/student" not in manifest["stages"]:
        raise InputError(f"{path}: has no trained student yet; run 'edgekd distill RECIPE --out {word(path)}' first")
    require_recipe(path)
    return bind_recipe(path / LOCKED_RECIPE, overrides, Path(manifest["base"]))


def _do(
    bound: Bound,
    path: Path,
    names: list[str],
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    turn_seconds: float = 0.0,
    anew: bool = False,
    command: str | None = None,
    afterwards: bool = False,
) -> Outcome:
    """Do stages.

    Args:
        afterwards: keep the recipe once the stages are done; else once it is checked, since they take hours.
    """
    if fresh:
        check_budgets(bound, ())  # before anything is deleted; all are told at once where the data is known
    with RunDir.held(path, bound.recipe.name, bound.base, bound.locked(), fresh=fresh, command=command) as run_dir:
        if not afterwards:
            _require_no_search(path, f"--out {path}", "choose another --out, or --fresh to delete it")
        context = Context(bound, run_dir, allow_changed, turn_seconds, anew, thorough=names[-1] == "knowledge")
        check_budgets(bound, context.data.class_names)  # a typing error must not cost a training
        if "student" in names or "knowledge" in names:
            check_storable(bound, context.pair)
            require_fitting(context)  # before methods are prepared, which may take hours
        if "student" in names:
            check_loggers(bound)
            if "accuracy/student" not in run_dir.manifest["stages"]:
                check_ready(context, to_the_end="profile" in names)
            if any(target.nms == "in_graph" for target in bound.targets):
                check_suppression(bound, context.pair)
        if not afterwards or names == ["report"]:  # which is of the recipe that is written down
            run_dir.accept()
        with foreseen(forecast(context, names) if "student" in names else None):
            for name in names:
                if name in TOGETHER or ranks.is_main():
                    STAGES[name](context)
        if afterwards:
            run_dir.accept()
    return _outcome(bound, path, names) if ranks.is_main() else Outcome(None, "", 0)


def _require_no_search(path: Path, named: str, remedy: str) -> None:
    """Refuse the directory of a search, whose report would be replaced."""
    if (path / SEARCH).is_file():
        raise InputError(f"{named}: holds a search, no run; {remedy}")


def _outcome(bound: Bound, path: Path, names: list[str]) -> Outcome:
    """The last stage's own file, shown. Where a verdict was asked for, it decides the exit code."""
    result, text = show(path, names[-1])
    if len(names) == 1 and (why := _why_nothing(bound, names[0])):
        say(f"{names[0]}: {why}")
        return Outcome(result, text, EXIT_CODES["inconclusive"])
    if names == ["gate"] or ("gate" in names and bound.wants_verdict):
        return Outcome(result, text, EXIT_CODES[read_json(path / "verdict.json")["status"]])
    return Outcome(result, text, _of_profiles(result) if names == ["profile"] else 0)


def _why_nothing(bound: Bound, stage: str) -> str | None:
    """Why a stage that was asked for by itself had nothing to do."""
    if stage in ("export", "validate", "profile") and not bound.targets:
        done = "exported" if stage == "export" else "measured"
        return f"nothing was {done}: the recipe has no target; name some in export:"
    if stage in ("validate", "profile") and not bound.devices:  # each target runs on one of them, or is refused
        return "nothing was measured: the recipe has no device; name some in devices:"
    return None


def _of_profiles(rows: list[dict[str, Any]]) -> int:
    """Exit code of measurements: that of an invalid one; of an emulated device nobody expects another."""
    measured = [one for row in rows for one in (row, *row["throughput"])]
    return EXIT_CODES["invalid" if any(is_unusable(one) for one in measured) else "pass"]
