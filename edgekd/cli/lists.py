"""What there is: targets, devices, methods, and the form of a recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from edgekd.cli.app import Json, app, print_json, print_rows
from edgekd.terminal import print_lines


@app.command()
def targets(as_json: Json = False) -> None:
    """List export targets, and whether this machine can make and run them."""
    from edgekd.stages.listing import list_targets, shown_targets

    rows = list_targets()
    if as_json:
        print_json(rows)
        return
    table, notes = shown_targets(rows)
    print_rows(table, as_json=False)
    print_lines(notes)


@app.command()
def devices(as_json: Json = False) -> None:
    """List devices."""
    from edgekd.stages.listing import list_devices

    print_rows(list_devices(), as_json)


@app.command()
def doctor(
    device: Annotated[str, typer.Option("--device", help="a name or a YAML file")] = "local",
    accept_host_key: Annotated[
        bool, typer.Option("--accept-host-key", help="show the device's ssh host key and trust it from now on")
    ] = False,
    as_json: Json = False,
) -> None:
    """Connect to a device and say what works there, and the remedy for the rest; exit 4 if it lacks something."""
    from edgekd.stages.doctor import examine, shown

    result = examine(device, accept_host_key=accept_host_key)
    if as_json:
        print_json(result)
    else:
        table, remedies = shown(result)
        print_rows(table, as_json=False)
        print_lines(remedies)
    raise typer.Exit(0 if result["ok"] else 4)


@app.command()
def methods(as_json: Json = False) -> None:
    """List distillation methods with their parameters."""
    from edgekd.stages.listing import list_methods

    print_rows(list_methods(), as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from edgekd.stages.binding import recipe_json_schema

    print_json(recipe_json_schema())
