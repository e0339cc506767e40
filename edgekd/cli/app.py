"""The program, the options that its commands share, and how results are printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekd import __version__, plain, ranks
from edgekd.cli import completion
from edgekd.terminal import cell, print_lines, print_table, put

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Distil a big object detector into a small one, export it, and prove it on the device.",
)

baselines = typer.Typer(no_args_is_help=True, help="Keep, list and show what releases measured.")
app.add_typer(baselines, name="baseline")


def _seconds(text: str) -> float:
    """90s, 30m or 2h."""
    factors = {"s": 1, "m": 60, "h": 3600}
    try:
        seconds = float(text[:-1]) * factors[text[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds <= 24 * 3600:
        raise typer.BadParameter(f"'{text}' is no time up to a day; write e.g. 90s, 30m or 2h")
    return seconds


def _patience(text: str) -> float:
    return 0.0 if text in ("0", "0s") else _seconds(text)


def file_to_write(path: Path | None) -> Path | None:
    """An output file, looked at before any work is done."""
    from edgekd.atomic import place_fault

    if path is not None and (fault := place_fault(path)):
        raise typer.BadParameter(f"{path}: {fault}")
    return path


RecipePath = Annotated[
    Path,
    typer.Argument(
        help="recipe: a YAML file, or the name of a built-in one", show_default=False, autocompletion=completion.recipes
    ),
]
RunPath = Annotated[Path, typer.Argument(help="run directory", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="run directory to write")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override: key.path=value (repeatable)")]
Fresh = Annotated[bool, typer.Option("--fresh", help="delete what edgekd wrote into the run directory first")]
AllowChanged = Annotated[
    bool, typer.Option("--allow-changed", help="go on from the saved state of a training that has changed since")
]
Bisect = Annotated[
    str | None,
    typer.Option(
        "--bisect",
        metavar="TARGET",
        help="show the nodes at which this artifact departs",
        autocompletion=completion.targets,
    ),
]
Everything = Annotated[bool, typer.Option("--all", help="with --bisect: show every node")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Sustained = Annotated[
    float | None,
    typer.Option("--sustained", metavar="TIME", parser=_seconds, help="one long run, e.g. 30m: what heat leaves"),
]
Streams = Annotated[
    list[int] | None,
    typer.Option("--streams", metavar="N", min=1, help="also count images per second of so many at once (repeatable)"),
]
Batch = Annotated[
    int | None, typer.Option("--batch", metavar="N", min=1, help="images per inference of --streams, or of one stream")
]
Wait = Annotated[
    float | None,
    typer.Option(
        "--wait", metavar="TIME", parser=_patience, help="for another run to leave a device", show_default="10m"
    ),
]
WAIT_SECONDS = 600.0
Store = Annotated[Path, typer.Option("--store", help="folder of the baselines")]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", callback=file_to_write, help="also write the verdict as JUnit XML to this file"),
]
Markdown = Annotated[
    Path | None, typer.Option("--markdown", callback=file_to_write, help="also write it as Markdown to this file")
]
Github = Annotated[bool, typer.Option("--github", help="also print GitHub annotations, on standard error")]


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    context.obj = {**(context.obj or {}), "debug": debug}
    if version:
        put(__version__)
        raise typer.Exit


def turn_seconds(wait: float | None) -> float:
    """How long to wait for another run to leave a device."""
    return WAIT_SECONDS if wait is None else wait


def recipe_file(path: Path) -> Path:
    """A recipe by its path or name."""
    from edgekd.recipe.lookup import find

    return find("recipes", str(path))


def finish(outcome: Any, as_json: bool) -> None:
    """Print what a command gave, and end with its exit code."""
    if ranks.is_main():
        if as_json:
            print_json(outcome.result)
        elif outcome.text:
            print_lines(outcome.text.split("\n"))
    raise typer.Exit(outcome.exit_code)


def print_json(content: Any) -> None:
    """For programs."""
    put(plain.json_text(content))


def print_pairs(content: dict[str, Any]) -> None:
    """A line per key."""
    print_lines(f"{key}: {value}" for key, value in content.items())


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """A table, whose first column is never broken."""
    if as_json:
        print_json(rows)
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(rows[0] if rows else ()):
        table.add_column(name, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*(cell(f"{value:.4g}" if isinstance(value, float) else value) for value in row.values()))
    print_table(table)
