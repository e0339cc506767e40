"""The road: a whole run, and its stages one by one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd.cli import completion
from edgekd.cli.app import (
    AllowChanged,
    Batch,
    Bisect,
    Everything,
    Fresh,
    Json,
    Out,
    RecipePath,
    RunPath,
    Set,
    Streams,
    Sustained,
    Wait,
    app,
    file_to_write,
    finish,
    print_json,
    print_pairs,
    print_rows,
    recipe_file,
    turn_seconds,
)  # fmt: skip
from edgekd.errors import InputError
from edgekd.terminal import print_lines


@app.command()
def run(
    context: typer.Context,
    recipe: RecipePath,
    out: Out,
    set_: Set = None,
    fresh: Fresh = False,
    allow_changed: AllowChanged = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Go the whole road: data, teacher, distillation, export, validation, profile, gate, report."""
    options = {"fresh": fresh, "allow_changed": allow_changed, "turn_seconds": turn_seconds(wait)}
    _road(context, recipe, out, set_, as_json, **options)


@app.command()
def prepare(
    context: typer.Context,
    recipe: RecipePath,
    out: Out,
    set_: Set = None,
    fresh: Fresh = False,
    allow_changed: AllowChanged = False,
    as_json: Json = False,
) -> None:
    """Up to what methods train of the teacher alone: data, teacher, the extractors of UniKD."""
    _road(context, recipe, out, set_, as_json, fresh=fresh, allow_changed=allow_changed, last="prepare")


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
def knowledge(
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(help="recipe, or 'show'", show_default=False)],
    store: Annotated[
        str | None, typer.Argument(help="with 'show': folder or URL of a store", show_default=False)
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", help="run directory to write", show_default="runs/NAME of the recipe's file")
    ] = None,
    set_: Set = None,
    fresh: Fresh = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="with 'show': compare everything with its checksums")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask the teachers once and store what they know, mending what is missing or damaged; or show a store."""
    if str(recipe) != "show":
        if store is not None or verify:
            raise InputError("knowledge: a store is named after 'show'; a recipe names its own under teacher.store")
        _road(context, recipe, out or Path("runs") / recipe.stem, set_, as_json, fresh=fresh, last="knowledge")
    if store is None:
        raise InputError("knowledge show: name the store, a folder or a URL")
    if out is not None or set_ or fresh:
        raise InputError("knowledge show: --out, --set and --fresh are for the knowledge of a recipe; leave them out")
    from edgekd.stages.knowledge import show_store, shown_store

    facts = show_store(store, thorough=verify)
    print_json(facts) if as_json else print_pairs(shown_store(facts))
    raise typer.Exit(0 if facts["complete"] else 4)


@app.command()
def export(
    run_dir: RunPath, set_: Set = None, bisect: Bisect = None, everything: Everything = False, as_json: Json = False
) -> None:
    """Export the trained student of a run to every target of its recipe, or look into one that is exported."""
    if bisect:
        from edgekd import pipeline

        finish(pipeline.bisect(run_dir, tuple(set_ or ()), bisect, everything=everything), as_json)
    if everything:
        raise InputError("--all: shows every node of a bisection; name its target with --bisect TARGET")
    _single(run_dir, set_, "export", as_json)


@app.command()
def validate(run_dir: RunPath, set_: Set = None, wait: Wait = None, as_json: Json = False) -> None:
    """Measure COCO AP of every artifact of a run on every device."""
    _single(run_dir, set_, "validate", as_json, wait=wait)


@app.command()
def profile(
    run_dir: RunPath,
    set_: Set = None,
    sustained: Sustained = None,
    streams: Streams = None,
    batch: Batch = None,
    again: Annotated[bool, typer.Option("--again", help="measure once more what was measured already")] = False,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Measure latency of every artifact of a run on every device, and throughput where it is asked for."""
    from edgekd.recipe.asked import profile_overrides

    set_ = [*(set_ or ()), *profile_overrides(streams or (), batch, sustained)]
    _single(run_dir, set_, "profile", as_json, wait=wait, anew=again)


@app.command()
def bundle(
    run_dir: RunPath,
    target: Annotated[
        str,
        typer.Option("--target", help="which exported target", show_default=False, autocompletion=completion.targets),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", callback=file_to_write, help="ZIP file to write; default: RUN/bundles/TARGET.zip"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack an artifact for a device: model, agent, an example, checksums."""
    from edgekd.stages.bundle import write_bundle

    result = write_bundle(run_dir, target, out)
    print_json(result) if as_json else print_lines([result["file"]])


@app.command()
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN [RUN ...]", help="run directory", show_default=False)],
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", callback=file_to_write, help="of several runs: HTML file", show_default="side-by-side.html"
        ),
    ] = None,
    opened: Annotated[bool, typer.Option("--open", help="show it in a browser")] = False,
    as_json: Json = False,
) -> None:
    """Build report.html, report.md and report.json from the files of a run; of several, one page side by side."""
    from edgekd.stages.run_reports import open_in_browser, write_side_by_side

    if len(run_dirs) == 1:
        if out is not None:
            raise InputError(f"--out {out}: is for several runs; that of one is {run_dirs[0] / 'report.html'}")
        from edgekd import pipeline

        outcome = pipeline.again(run_dirs[0], tuple(set_ or ()), "report")
        if opened:
            open_in_browser(run_dirs[0] / "report.html")
        finish(outcome, as_json)
    if set_:
        raise InputError("--set: changes the report of one run; name one")
    file = out or Path("side-by-side.html")
    result, table = write_side_by_side(run_dirs, file)
    if as_json:
        print_json(result)
    else:
        print_rows(table, as_json=False)
        print_lines([f"report: {file}"])
    if opened:
        open_in_browser(file)


@app.command()
def check(
    recipe: RecipePath,
    set_: Set = None,
    architecture_only: Annotated[
        bool, typer.Option("--architecture-only", help="build models by name; open no weights and no data")
    ] = False,
    dry_step: Annotated[bool, typer.Option("--dry-step", help="also run one training step on the CPU")] = False,
    no_estimate: Annotated[
        bool, typer.Option("--no-estimate", help="make no steps to see how long a run takes and what it needs")
    ] = False,
    as_json: Json = False,
) -> None:
    """Resolve a recipe: build the models, bind methods, targets and devices; estimate a run by a few steps."""
    from edgekd.search.distillers.section import check_section
    from edgekd.stages.check import check_recipe, print_check

    given = (recipe_file(recipe), tuple(set_ or ()))
    result = check_recipe(*given, architecture_only, dry_step, not no_estimate, check_section)
    print_json(result) if as_json else print_check(result)


@app.command()
def data(
    name: Annotated[
        str,
        typer.Argument(help="'digits' (the embedded data set), 'trees' with --from, or a recipe", show_default=False),
    ],
    *,
    wheel: Annotated[
        Path | None, typer.Option("--from", help="with 'trees': the wheel of deepforest that holds the photographs")
    ] = None,
    set_: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="folder to write digits to, or the run directory")] = None,
    imgsz: Annotated[int, typer.Option(help="image size in px")] = 96,
    train: Annotated[int, typer.Option(help="training images")] = 800,
    val: Annotated[int, typer.Option(help="validation images")] = 200,
    test: Annotated[int, typer.Option(help="test images")] = 200,
    seed: Annotated[int, typer.Option(help="random seed")] = 0,
    as_json: Json = False,
) -> None:
    """Write the embedded data set or one of aerial photographs, or validate the data of a recipe."""
    from edgekd.stages.data import describe_recipe_data, write_digits, write_trees
    from edgekd.stages.data_text import print_data

    if wheel is not None and name != "trees":
        raise InputError(f"--from {wheel}: is for 'edgekd data trees' alone; leave it out")
    if name == "digits":
        result = write_digits(out or Path("digits"), imgsz=imgsz, train=train, val=val, test=test, seed=seed)
        print_json(result) if as_json else print_pairs(result)
    elif wheel is not None:
        result = write_trees(out or Path("trees"), wheel)
        print_json(result) if as_json else print_pairs(result)
    else:
        result = describe_recipe_data(recipe_file(Path(name)), out, tuple(set_ or ()))
        print_json(result) if as_json else print_data(result)


def _enter(context: typer.Context, recipe: Path, set_: list[str] | None) -> None:
    """Join the processes that train together. Where they are started here, they do it all."""
    from edgekd.training import launch

    code = launch.enter(recipe_file(recipe), tuple(set_ or ()), context.obj["arguments"])
    if code is not None:
        sys.exit(code)


def _road(
    context: typer.Context, recipe: Path, out: Path, set_: list[str] | None, as_json: bool, **options: Any
) -> None:
    _enter(context, recipe, set_)
    from edgekd import pipeline

    finish(pipeline.run(recipe_file(recipe), out, tuple(set_ or ()), **options), as_json)


def _single(
    run_dir: Path,
    set_: list[str] | None,
    stage: str,
    as_json: bool,
    wait: float | None = None,
    anew: bool = False,
) -> None:
    from edgekd import pipeline

    finish(pipeline.again(run_dir, tuple(set_ or ()), stage, turn_seconds=turn_seconds(wait), anew=anew), as_json)
