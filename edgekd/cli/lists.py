"""What there is: targets, devices, methods, and the form of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli import completion
from edgekd.cli.app import Json, Set, app, print_json, print_rows, recipe_file
from edgekd.terminal import print_lines


@app.command()
def targets(as_json: Json = False) -> None:
    """List export targets, whether this machine can make and run them, and what was executed on hardware."""
    from edgekd.evidence import listed
    from edgekd.stages.listing import shown_targets

    rows = listed.targets()
    if as_json:
        print_json(rows)
        return
    table, notes = shown_targets(rows)
    print_rows(table, as_json=False)
    print_lines(notes)


@app.command()
def devices(as_json: Json = False) -> None:
    """List devices, and which were ever executed on."""
    from edgekd.evidence import listed
    from edgekd.stages.listing import shown_devices

    rows = listed.devices()
    print_rows(rows if as_json else shown_devices(rows), as_json)


@app.command()
def doctor(
    device: Annotated[
        str, typer.Option("--device", help="a name or a YAML file", autocompletion=completion.devices)
    ] = "local",
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
def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            help="show the card of this one, or what this preset stands for",
            show_default=False,
            autocompletion=completion.methods,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--for",
            help="which of them serve the student and teacher of this recipe",
            autocompletion=completion.recipes,
        ),
    ] = None,
    architecture_only: Annotated[
        bool, typer.Option("--architecture-only", help="with --for: build models by name; open no weights and no data")
    ] = False,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """List distillation methods and presets, show one, or say which serve a recipe and why the others cannot."""
    from edgekd.stages import methods as stage

    if name and recipe:
        raise typer.BadParameter("give the name of a method or --for RECIPE, not both")
    if (set_ or architecture_only) and not recipe:
        raise typer.BadParameter("--set and --architecture-only are about a recipe; name it with --for RECIPE")
    if recipe:
        rows = stage.methods_for(recipe_file(recipe), tuple(set_ or ()), architecture_only)
        print_rows(rows if as_json else stage.shown_fits(rows), as_json)
        return
    if not name:
        rows = [*stage.list_methods(), *stage.list_presets()]
        print_rows(rows if as_json else stage.shown_methods(rows), as_json)
        return
    preset = stage.preset_card(name)
    card = preset or stage.method_card(name)
    if as_json:
        print_json(card)
    elif preset:
        print_lines(stage.shown_preset(preset))
    else:
        lines, keys = stage.shown_card(card)
        print_lines(lines)
        print_rows(keys, as_json=False)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from edgekd.stages.binding import recipe_json_schema

    print_json(recipe_json_schema())
