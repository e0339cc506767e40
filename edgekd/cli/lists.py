"""What there is: targets, devices, methods, and the form of a recipe."""

from __future__ import annotations

from edgekd.cli.app import Json, app, print_json, print_rows


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
    print(*notes, sep="\n", end="\n" if notes else "")


@app.command()
def devices(as_json: Json = False) -> None:
    """List devices."""
    from edgekd.stages.listing import list_devices

    print_rows(list_devices(), as_json)


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
