"""The first recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekd.cli.app import Json, app, print_json
from edgekd.terminal import print_lines


@app.command()
def init(
    data: Annotated[
        str | None,
        typer.Argument(help="a data.yaml, a COCO JSON of the train split, or 'digits'", show_default=False),
    ] = None,
    *,
    teacher: Annotated[Path, typer.Option("--teacher", help="weights of a detector that is good at this data")],
    teacher_model: Annotated[
        str | None, typer.Option("--teacher-model", help="its model, where the weights do not say it")
    ] = None,
    student: Annotated[
        str | None, typer.Option("--student", help="a model or weights; default: one that suits the teacher")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="where it will run: a name or a YAML file")] = "local",
    out: Annotated[Path | None, typer.Option("--out", help="file to write; default: named after the data")] = None,
    from_yolo: Annotated[
        Path | None, typer.Option("--from-yolo", help="take over the args.yaml of a `yolo train`")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a first recipe, by looking at data, teacher, device and machine. Asks nothing, overwrites nothing."""
    from edgekd.stages.starting.first_recipe import InitRequest, write_first_recipe

    request = InitRequest(data, teacher, teacher_model, student, device, out, from_yolo)
    result = write_first_recipe(request)
    print_json(result) if as_json else print_lines([result["file"], f"next: {result['next']}"])
