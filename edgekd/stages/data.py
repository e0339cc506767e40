"""Stage data: validate images and labels, write the view that the engine trains on, and say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.atomic import write_json
from edgekd.data import config as data_config
from edgekd.data import digits, train_view
from edgekd.data.layouts import DataSet
from edgekd.progress import say
from edgekd.stages.context import Context


def data_stage(context: Context) -> None:
    """Validate the data set and write `data/split.json` and the training view."""
    data = context.data
    for problem in data.problems:
        say(f"warning: data: {problem}")

    def write() -> None:
        train_view.write(data, context.path / "data" / "train_view")
        write_json(context.path / "data" / "split.json", describe(data))

    context.stage("data", {"config": context.bound.data.model_dump(mode="json")}, ["data/split.json"], write)


def describe(data: DataSet) -> dict[str, Any]:
    """Content of `split.json`."""
    return {
        "schema": "edgekd.data/1",
        "class_names": list(data.class_names),
        "channels": data.channels,
        "splits": {
            name: {
                "images": len(split.images),
                "boxes": sum(len(truth.boxes_px) for truth in split.images),
                "content_hash": split.content_hash,
            }
            for name, split in data.splits.items()
        },
        "problems": [
            {"split": problem.split, "kind": problem.kind, "count": problem.count, "examples": list(problem.examples)}
            for problem in data.problems
        ],
    }


def write_digits(out: Path, imgsz: int, train: int, val: int, test: int, seed: int) -> dict[str, Any]:
    """Write the embedded data set in both layouts."""
    yaml_path = digits.generate(out, imgsz=imgsz, train=train, val=val, test=test, seed=seed)
    return {"data_yaml": str(yaml_path), "annotations": str(out / "annotations"), "train": train, "val": val, "test": test}


def describe_recipe_data(recipe: Path, out: Path | None) -> dict[str, Any]:
    """Validate the data of a recipe; with `out`, as the first stage of that run."""
    import tempfile

    from edgekd.run_dir import RunDir
    from edgekd.stages.binding import bind_recipe

    bound = bind_recipe(recipe)
    if out is not None:
        run = RunDir.open(out, bound.recipe.name, bound.base, bound.locked())
        with run.locked():
            context = Context(bound, run)
            data_stage(context)
            return describe(context.data)
    with tempfile.TemporaryDirectory() as folder:
        return describe(data_config.load(bound.data, Path(folder), bound.base))
