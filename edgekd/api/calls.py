"""What the commands do, as functions. Errors are typed, with the messages of the command line."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from edgekd.api.recipe import Recipe
from edgekd.api.results import Run
from edgekd.api.shown import Verdict
from edgekd.api.typed import typed_errors
from edgekd.errors import DivergedError, EdgekdError, EnvironmentFault, InputError, Interrupted
from edgekd.progress import Event, listening
from edgekd.recipe.asked import overrides_of, profile_overrides

WAIT_S = 600.0  # for another run to leave a device
QUIET_S = 60.0  # for a device to be quiet, as the default of a recipe's profile.wait
Overrides = Mapping[str, Any]
Listener = Callable[[Event], None]
_KINDS: dict[int, type[EdgekdError]] = {
    kind.exit_code: kind for kind in (InputError, EnvironmentFault, DivergedError, Interrupted)
}


@typed_errors
def run(
    recipe: str | Path | Recipe,
    out: str | Path,
    overrides: Overrides | None = None,
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    wait_s: float = WAIT_S,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Go the whole road: data, teacher, distillation, export, validation, profile, gate, report.

    What is done already is kept, and a training goes on where it stopped: the same call again is all that it takes.
    A gate that fails raises nothing: `run(...).passed`.

    Args:
        recipe: its file, the name of a built-in one, or a `Recipe`.
        out: the run directory.
        overrides: e.g. `{"train.epochs": 3, "distill": ["logit"]}`, as after `--set`.
        fresh: delete first what edgekd wrote there.
        allow_changed: go on from the saved state of a training that has changed since.
        wait_s: for another run to leave a device.
        on_event: is called with every `Event`; what it raises ends the run.
        quiet: write nothing on standard error.

    Raises:
        InputError: recipe, data or model are wrong; one line per problem.
        EnvironmentFault: the machine or a device failed.
        DivergedError: a loss is not finite.
        Interrupted: stopped by a signal, with everything saved.
    """
    ways: dict[str, Any] = {"fresh": fresh, "allow_changed": allow_changed}
    return _road("run", recipe, Path(out), overrides, listening(on_event, quiet=quiet), ways, turn_seconds=wait_s)


@typed_errors
def prepare(
    recipe: str | Path | Recipe,
    out: str | Path,
    overrides: Overrides | None = None,
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Up to what methods train of the teacher alone: data, teacher, UniKD's extractors. Arguments as of `run`."""
    ways: dict[str, Any] = {"fresh": fresh, "allow_changed": allow_changed}
    return _road("prepare", recipe, Path(out), overrides, listening(on_event, quiet=quiet), ways, last="prepare")


@typed_errors
def distill(
    recipe: str | Path | Recipe,
    out: str | Path,
    overrides: Overrides | None = None,
    *,
    fresh: bool = False,
    allow_changed: bool = False,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Up to the trained student: data, teacher, control, distillation, training for int8. Arguments as of `run`."""
    ways: dict[str, Any] = {"fresh": fresh, "allow_changed": allow_changed}
    return _road("distill", recipe, Path(out), overrides, listening(on_event, quiet=quiet), ways, last="student_qat")


@typed_errors
def export(
    run: str | Path | Run,
    overrides: Overrides | None = None,
    *,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Export the trained student of a run to every target of its recipe."""
    return _again(run, overrides_of(overrides), "export", listening(on_event, quiet=quiet))


@typed_errors
def validate(
    run: str | Path | Run,
    overrides: Overrides | None = None,
    *,
    wait_s: float = WAIT_S,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Measure COCO AP of every artifact of a run on every device."""
    return _again(run, overrides_of(overrides), "validate", listening(on_event, quiet=quiet), turn_seconds=wait_s)


@typed_errors
def profile(
    run: str | Path | Run,
    overrides: Overrides | None = None,
    *,
    streams: Sequence[int] = (),
    batch: int | None = None,
    sustained_s: float | None = None,
    again: bool = False,
    wait_s: float = WAIT_S,
    on_event: Listener | None = None,
    quiet: bool = False,
) -> Run:
    """Measure latency of every artifact of a run on every device, and throughput where it is asked for.

    Args:
        streams: also count images per second of so many at once, a load each.
        batch: images per inference of these streams, or of one.
        sustained_s: one long run, what heat leaves.
        again: measure once more what was measured already.
    """
    asked = (*overrides_of(overrides), *profile_overrides(streams, batch, sustained_s))
    return _again(run, asked, "profile", listening(on_event, quiet=quiet), turn_seconds=wait_s, anew=again)


@typed_errors
def report(run: str | Path | Run, overrides: Overrides | None = None, *, quiet: bool = False) -> Run:
    """Build report.html, report.md and report.json from the files of a run."""
    return _again(run, overrides_of(overrides), "report", listening(None, quiet=quiet))


@typed_errors
def gate(
    run: str | Path | Run, overrides: Overrides | None = None, *, save: bool = False, quiet: bool = False
) -> Verdict:
    """Judge the budgets of the recipe. By other budgets (overrides), nothing is kept unless `save` says so."""
    from edgekd import pipeline

    with listening(None, quiet=quiet):
        return Verdict.of(pipeline.judge(_path(run), overrides_of(overrides), save=save).result)


def _road(
    command: str,
    recipe: str | Path | Recipe,
    out: Path,
    overrides: Overrides | None,
    heard: AbstractContextManager[None],
    ways: dict[str, Any],
    **options: Any,
) -> Run:
    """A run, here or in the processes that the recipe asks for."""
    from edgekd import pipeline
    from edgekd.training import launch

    asked, taken = overrides_of(overrides), Recipe.asked(recipe)
    words = [str(taken.place), "--out", str(out), *(part for one in asked for part in ("--set", one))]
    switches = [f"--{name.replace('_', '-')}" for name, given in ways.items() if given]
    arguments, content = ([command, *words, *switches], None) if taken.path else (None, taken.content)
    code = launch.enter(taken.place, asked, arguments, content)
    if code is None:
        made_by = shlex.join(["edgekd", "run", *words]) if taken.path else f"edgekd.run(recipe, out={str(out)!r})"
        with heard:
            pipeline.run_bound(taken.bound(asked), out, made_by, **ways, **options)
    elif code and not _is_verdict(out, code):
        kind = _KINDS.get(code, EdgekdError)
        raise kind(f"{taken.place}: the processes that trained together ended with exit code {code}, and said why")
    return Run(out)


def _is_verdict(out: Path, code: int) -> bool:
    """Whether an exit code is the gate's, so that all was done."""
    return (out / "verdict.json").is_file() and Run(out).verdict.exit_code == code


def _again(
    run: str | Path | Run, overrides: tuple[str, ...], stage: str, heard: AbstractContextManager[None], **options: Any
) -> Run:
    from edgekd import pipeline

    with heard:
        pipeline.again(_path(run), overrides, stage, **options)
    return Run(_path(run))


def _path(run: str | Path | Run) -> Path:
    return run.path if isinstance(run, Run) else Path(run)
