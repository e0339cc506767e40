"""What was executed on this hardware, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli import completion
from edgekd.cli.app import Json, app, file_to_write, print_json, print_rows
from edgekd.terminal import print_lines


@app.command()
def evidence(
    out: Annotated[
        Path, typer.Option("--out", callback=file_to_write, help="JSON file to write; one that is there goes on")
    ],
    device: Annotated[
        str,
        typer.Option("--device", help="where artifacts run: a name or a YAML file", autocompletion=completion.devices),
    ] = "local",
    minutes: Annotated[float, typer.Option("--minutes", metavar="M", min=0.1, max=1440, help="what fits is done")] = 25,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="experiments whose name begins so (repeatable)")
    ] = None,
    miniature: Annotated[
        bool, typer.Option("--miniature", help="the whole list in small, on the CPU; its figures say nothing")
    ] = False,
    as_json: Json = False,
) -> None:
    """Try what this machine or a device can do, most valuable first, and write down what was measured."""
    from edgekd.evidence import runner
    from edgekd.evidence.scale import FULL, MINIATURE
    from edgekd.evidence.shown import rows, summary

    found = runner.gather(out, device, minutes, MINIATURE if miniature else FULL, tuple(only or ()))
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_rows(rows(found), as_json=False)
        print_lines([*summary(found), f"evidence: {out}"])
