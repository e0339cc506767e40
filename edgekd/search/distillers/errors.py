"""Errors by kind on the images held out: of the teacher, of a student without it, and of what was found.

Of a student without weights, the errors are those that a trial without a teacher leaves it with.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgekd.atomic import read_json, write_json
from edgekd.progress import say
from edgekd.search.distillers.candidates import CONTROL, Candidate, entries_of
from edgekd.search.distillers.trials import Look, Outcome, Runner
from edgekd.stages.context import Context

_BEFORE, _AFTER = "proxy/errors.json", "proxy/after.json"


def before(context: Context, runner: Runner) -> tuple[dict[str, Any], Outcome | None]:
    """Stage search_errors: `teacher` and `before`, and the outcome of the trial without a teacher if there was one."""
    proxy, teacher = runner.proxy, context.pair.teacher
    assert teacher is not None

    def action() -> list[str]:
        found: dict[str, Any] = {"teacher": proxy.breakdown(teacher, "validating the teacher", teacher=True)}
        outcome = None
        if proxy.extent.warm_passes or context.pair.initialised:
            found["before"] = proxy.breakdown(proxy.student, "validating the student")
        else:
            found["before"], outcome = _after_a_trial(context, runner, CONTROL, "validating the student")
        told = ", ".join(f"{name} {one['ap']:.3f}" for name, one in found.items())
        say(f"AP on the {proxy.extent.held_out} images held out of train: {told}")
        write_json(context.path / _BEFORE, {**found, "control": asdict(outcome) if outcome else None})
        return [_BEFORE]

    context.stage("search_errors", proxy.identity(), action)
    content: dict[str, Any] = read_json(context.path / _BEFORE)
    control = content.pop("control")
    return content, Outcome(**control) if control else None


def after(context: Context, runner: Runner, candidate: Candidate) -> dict[str, Any]:
    """Stage search_after: errors of the student that the best candidate trains, once more."""

    def action() -> list[str]:
        write_json(context.path / _AFTER, _after_a_trial(context, runner, candidate, "validating the best")[0])
        return [_AFTER]

    context.stage("search_after", {**runner.proxy.identity(), "candidate": entries_of(candidate)}, action)
    found: dict[str, Any] = read_json(context.path / _AFTER)
    return found


def _after_a_trial(
    context: Context, runner: Runner, candidate: Candidate, title: str
) -> tuple[dict[str, Any], Outcome]:
    """Of a trial that goes on to its end, whatever it shows."""
    look = Look(float("inf"), lambda _pass, _ap: False)
    try:
        student = runner.proxy.train(candidate, context.bound.recipe.seed, runner.folder, look)
        return runner.proxy.breakdown(student, title), look.outcome
    finally:
        runner.clear()
