"""The command line: one command per stage. Parses, calls, prints, exits; heavy imports live inside the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from edgekd import __version__, ranks
from edgekd.errors import EdgekdError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Distil a big object detector into a small one, export it, and prove it on the device.",
)

RecipePath = Annotated[
    Path, typer.Argument(help="recipe: a YAML file, or the name of a built-in one", show_default=False)
]
RunPath = Annotated[Path, typer.Argument(help="run directory", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="run directory to write")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override: key.path=value (repeatable)")]
Fresh = Annotated[bool, typer.Option("--fresh", help="delete the run directory first")]
AllowChanged = Annotated[
    bool, typer.Option("--allow-changed", help="go on from the saved state of a training that has changed since")
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    context.obj = {**(context.obj or {}), "debug": debug}
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def run(
    context: typer.Context,
    recipe: RecipePath,
    out: Out,
    set_: Set = None,
    fresh: Fresh = False,
    allow_changed: AllowChanged = False,
    as_json: Json = False,
) -> None:
    """Go the whole road: data, teacher, distillation, export, validation, profile, gate, report."""
    _road(context, recipe, out, set_, as_json, fresh=fresh, allow_changed=allow_changed)


@app.command()
def distill(
    context: typer.Context,
    recipe: RecipePath,
    out: Out,
    set_: Set = None,
    fresh: Fresh = False,
    allow_changed: AllowChanged = False,
    as_json: Json = False,
) -> None:
    """Up to the trained student: data, teacher, control, distillation, training for int8."""
    _road(context, recipe, out, set_, as_json, fresh=fresh, allow_changed=allow_changed, last="student_qat")


@app.command()
def export(run_dir: RunPath, set_: Set = None, as_json: Json = False) -> None:
    """Export the trained student of a run to every target of its recipe."""
    _single(run_dir, set_, "export", as_json)


@app.command()
def validate(run_dir: RunPath, set_: Set = None, as_json: Json = False) -> None:
    """Measure COCO AP of every artifact of a run on every device."""
    _single(run_dir, set_, "validate", as_json)


@app.command()
def profile(run_dir: RunPath, set_: Set = None, as_json: Json = False) -> None:
    """Measure latency of every artifact of a run on every device."""
    _single(run_dir, set_, "profile", as_json)


@app.command()
def gate(run_dir: RunPath, set_: Set = None, as_json: Json = False) -> None:
    """Judge the budgets of the recipe; exit 0 pass, 1 fail, 3 inconclusive, 4 invalid."""
    _single(run_dir, set_, "gate", as_json)


@app.command()
def report(run_dir: RunPath, set_: Set = None, as_json: Json = False) -> None:
    """Build report.html, report.md and report.json from the files of a run."""
    _single(run_dir, set_, "report", as_json)


@app.command()
def check(
    recipe: RecipePath,
    set_: Set = None,
    architecture_only: Annotated[
        bool, typer.Option("--architecture-only", help="build models by name; open no weights and no data")
    ] = False,
    dry_step: Annotated[bool, typer.Option("--dry-step", help="also run one training step on the CPU")] = False,
    as_json: Json = False,
) -> None:
    """Resolve a recipe: build the models, discover taps, bind distillers, targets and devices, print the table."""
    from edgekd.stages.check import check_recipe, print_check

    result = check_recipe(_recipe(recipe), tuple(set_ or ()), architecture_only, dry_step)
    _print_json(result) if as_json else print_check(result)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="'digits' (the embedded data set) or a recipe", show_default=False)],
    *,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write digits to, or the run directory")] = None,
    imgsz: Annotated[int, typer.Option(help="image size in px")] = 96,
    train: Annotated[int, typer.Option(help="training images")] = 800,
    val: Annotated[int, typer.Option(help="validation images")] = 200,
    test: Annotated[int, typer.Option(help="test images")] = 200,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    as_json: Json = False,
) -> None:
    """Write the embedded data set, or validate the data of a recipe."""
    from edgekd.stages.data import describe_recipe_data, write_digits

    if name == "digits":
        result = write_digits(out or Path("digits"), imgsz=imgsz, train=train, val=val, test=test, seed=seed)
    else:
        result = describe_recipe_data(_recipe(Path(name)), out, tuple(set_ or ()))
    _print_json(result) if as_json else _print_pairs(result)


@app.command()
def targets(as_json: Json = False) -> None:
    """List export targets, and whether this machine can make and run them."""
    from edgekd.stages.listing import list_targets, shown_targets

    rows = list_targets()
    if as_json:
        _print_json(rows)
        return
    table, notes = shown_targets(rows)
    _print_rows(table, as_json=False)
    print(*notes, sep="\n", end="\n" if notes else "")


@app.command()
def devices(as_json: Json = False) -> None:
    """List devices."""
    from edgekd.stages.listing import list_devices

    _print_rows(list_devices(), as_json)


@app.command()
def methods(as_json: Json = False) -> None:
    """List distillation methods with their parameters."""
    from edgekd.stages.listing import list_methods

    _print_rows(list_methods(), as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from edgekd.stages.binding import recipe_json_schema

    _print_json(recipe_json_schema())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: exit codes and one-line errors as the README promises."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        obj = {"arguments": arguments}
        code = app(arguments, standalone_mode=False, obj=obj)  # what `typer.Exit` was given; 130 after Ctrl-C
        code = code if code == 130 else ranks.leave(int(code or 0))
    except SystemExit as stop:  # the work was done elsewhere, or nobody reads the output any more
        ranks.end_others(1 if stop.code else 0)
        raise
    except EdgekdError as error:
        _fail(error.problems, error.exit_code, arguments)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:
        _unexpected(error, arguments)
    if code == 130:
        _fail(("interrupted; the same command goes on from the last finished stage",), code, arguments)
    sys.exit(code)


def _unexpected(error: Exception, arguments: list[str]) -> NoReturn:
    """Usage errors of the command line parser, disk errors, processes that went away, and bugs."""
    if hasattr(error, "format_message"):  # the parser's usage errors, whichever click made them
        message = error.format_message().rstrip(".")
        _fail((f"{message}; see 'edgekd --help'",) if message else (), 2, arguments)
    if isinstance(error, OSError) and error.errno in (28, 30, 122):  # full, read-only, over quota
        _fail((f"{error.filename or 'disk'}: {error.strerror}; free space or choose another --out",), 4, arguments)
    if ranks.is_loss(error):
        _fail(("another process ended without a word (killed?); the same command goes on",), 4, arguments)
    if "--debug" not in arguments:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _end((f"edgekd: bug: {what}; please report it with the output of --debug",), 70)
    ranks.end_others(70)
    raise error


def _fail(problems: tuple[str, ...], code: int, arguments: list[str]) -> NoReturn:
    if "--debug" in arguments and sys.exc_info()[0]:
        import traceback

        traceback.print_exc()
    _end(tuple(f"edgekd: error: {problem}" for problem in problems), code)


def _end(lines: tuple[str, ...], code: int) -> NoReturn:
    """Of processes that train together, the first one to fail says why, and ends all."""
    if ranks.is_first_to_fail():
        print(*lines, sep="\n", end="\n" if lines else "", file=sys.stderr, flush=True)
        ranks.end_others(code)
    sys.exit(code)


def _enter(context: typer.Context, recipe: Path, set_: list[str] | None) -> None:
    """Join the processes that train together. Where they are started here, they do it all."""
    from edgekd.training import launch

    code = launch.enter(_recipe(recipe), tuple(set_ or ()), context.obj["arguments"])
    if code is not None:
        sys.exit(code)


def _recipe(path: Path) -> Path:
    from edgekd.recipe.lookup import find

    return find("recipes", str(path))


def _road(
    context: typer.Context, recipe: Path, out: Path, set_: list[str] | None, as_json: bool, **options: Any
) -> None:
    _enter(context, recipe, set_)
    from edgekd import pipeline

    _finish(pipeline.run(_recipe(recipe), out, tuple(set_ or ()), **options), as_json)


def _single(run_dir: Path, set_: list[str] | None, stage: str, as_json: bool) -> None:
    from edgekd import pipeline

    _finish(pipeline.again(run_dir, tuple(set_ or ()), stage), as_json)


def _finish(outcome: Any, as_json: bool) -> None:
    if ranks.is_main():
        _print_json(outcome.result) if as_json else print(outcome.text)
        sys.stdout.flush()  # before the other processes leave
    raise typer.Exit(outcome.exit_code)


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))


def _print_pairs(content: dict[str, Any]) -> None:
    for key, value in content.items():
        print(f"{key}: {value}")


def _print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False)
    for index, name in enumerate(rows[0] if rows else ()):
        table.add_column(name, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
