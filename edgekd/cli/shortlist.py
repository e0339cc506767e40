"""Which students are quick enough for a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli import completion
from edgekd.cli.app import (
    Json,
    RecipePath,
    Set,
    Wait,
    app,
    file_to_write,
    print_json,
    print_rows,
    recipe_file,
    turn_seconds,
)  # fmt: skip
from edgekd.errors import InputError
from edgekd.terminal import print_lines


@app.command()
def shortlist(
    recipe: RecipePath,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="a name or a YAML file; default: the recipe's only one, else local",
            autocompletion=completion.devices,
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="keeps what is measured", show_default="runs/shortlist-NAME")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="measure also what a prediction rules out")] = False,
    most: Annotated[int | None, typer.Option("--most", metavar="N", min=1, help="measure at most N now")] = None,
    pick: Annotated[
        str | None, typer.Option("--pick", metavar="NAME", help="measure nothing; write the recipe of this candidate")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", callback=file_to_write, help="with --pick: the recipe to write")
    ] = None,
    set_: Set = None,
    wait: Wait = None,
    as_json: Json = False,
) -> None:
    """Profile untrained students on a device, and say which fit the gate's budgets and are not dominated."""
    from edgekd.search import shortlist as search

    if (pick is None) != (out is None):
        raise InputError("--pick and --out belong together: --pick NAME --out recipe.yaml")
    path = recipe_file(recipe)
    found = search.shortlist(
        path, device, folder, tuple(set_ or ()), everything=everything, most=most, turn_seconds=turn_seconds(wait),
        measuring=pick is None,
    )  # fmt: skip
    if pick is not None and out is not None:
        from edgekd.search.picked import write_picked

        picked = write_picked(found, path, pick, out, device)
        if as_json:
            print_json({"file": str(picked.file), "candidate": picked.name, "notes": list(picked.notes)})
        else:
            print_lines([*(f"note: {note}" for note in picked.notes), f"recipe: {picked.file}"])
        return
    from edgekd.search.shown import lines, rows, write

    told, page = write(found)
    if as_json:
        print_json(told)
    else:
        if table := rows(told):
            print_rows(table, as_json=False)
        print_lines([*lines(told), f"page: {page}"])
    raise typer.Exit(found.exit_code)
