"""Stage data: validate images and labels, write the view that the engine trains on, and say what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd.atomic import write_json
from edgekd.data import config as data_config
from edgekd.data import digits, train_view, trees
from edgekd.progress import say
from edgekd.stages.context import Context
from edgekd.stages.quantization_images import check_images
from edgekd.types import Split


def data_stage(context: Context, *, tell: bool = True) -> None:
    """Validate the data set; write `data/split.json`, the validation labels (for the report) and the training view.

    Args:
        tell: say on standard error what the user should know of the data.
    """
    data = context.data
    for sentence in data_config.notices(data.as_json()) if tell else ():
        say(f"warning: data: {sentence}")

    def write() -> list[str]:
        train_view.write(data, context.path / "data" / "train_view")
        write_json(context.path / "data" / "split.json", data.as_json())
        write_json(context.path / "data" / "ground_truth-val.json", _labels(data.splits["val"]))
        return ["data/split.json", "data/ground_truth-val.json"]

    check_images(context)
    config = context.bound.data.model_dump(mode="json")
    context.stage("data", {"config": config, "found": data.as_json()}, write)


def _labels(split: Split) -> dict[str, Any]:
    return {
        "images": [
            {
                "image_id": truth.image_id,
                "file_name": truth.file_name,
                "height_px": truth.height_px,
                "width_px": truth.width_px,
                "boxes_px": truth.boxes_px.tolist(),
                "class_ids": truth.class_ids.tolist(),
                "is_crowd": truth.is_crowd.tolist(),
            }
            for truth in split.images
        ]
    }


def write_digits(out: Path, *, imgsz: int, train: int, val: int, test: int, seed: int) -> dict[str, Any]:
    """Write the embedded data set in both layouts."""
    yaml_path = digits.generate(out, imgsz=imgsz, train=train, val=val, test=test, seed=seed)
    return {
        "data_yaml": str(yaml_path),
        "annotations": str(out / "annotations"),
        "train": train,
        "val": val,
        "test": test,
    }


def write_trees(out: Path, wheel: Path) -> dict[str, Any]:
    """Cut the aerial photographs of a wheel of `deepforest` into tiles."""
    yaml_path = trees.generate(out, wheel)
    counts = {split: len(list((out / "images" / split).iterdir())) for split in ("train", "val")}
    return {"data_yaml": str(yaml_path), **counts}


def describe_recipe_data(recipe: Path, out: Path | None, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Validate the data of a recipe; with `out`, as the first stage of that run."""
    import tempfile

    from edgekd.run_dir import RunDir
    from edgekd.stages.binding import bind_recipe

    bound = bind_recipe(recipe, overrides)
    if out is not None:
        with RunDir.held(out, bound.recipe.name, bound.base, bound.locked()) as run:
            context = Context(bound, run)
            data_stage(context, tell=False)  # the result says it
            run.accept()
            return context.data.as_json()
    with tempfile.TemporaryDirectory() as folder:
        return data_config.load(bound.data, Path(folder), bound.base).as_json()
