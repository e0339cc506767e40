"""Which data set a path means, and what it is like."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.data.config import DataSet
from edgekd.errors import InputError
from edgekd.files import read_text
from edgekd.plain import listed
from edgekd.recipe.lookup import SUFFIXES

_VAL = ("val", "valid", "validation", "val2017")
_SPLITS = {"val": _VAL, "test": ("test",)}
_LABEL_STUDIO = "Label Studio's exports have no splits: make them as docs/from-labelling-tools.md says"
_TOLD_BY = {  # file in a folder without a data.yaml -> what to do
    "notes.json": _LABEL_STUDIO,
    "result.json": _LABEL_STUDIO,
    "obj.data": "obj.data is Darknet's layout (YOLO 1.1 of CVAT): export as docs/from-labelling-tools.md says",
}


@dataclass(frozen=True)
class Shape:
    """What sizes and counts a data set has.

    Attributes:
        train, val: numbers of images.
        long_side_px: of 9 in 10 train images, at most.
        object_px: a quarter of the train objects are smaller (root of the box's area), in px of the image.
    """

    train: int
    val: int
    long_side_px: int
    object_px: float | None


def section(given: str, beside: Path) -> dict[str, Any]:
    """The recipe's `data:` for a data.yaml, a COCO file of the train split, or `digits`.

    Args:
        beside: the recipe's folder, from which paths are written where they lie in it.

    Raises:
        InputError: it is none of these, or the COCO file's neighbours are not found.
    """
    path = Path(given)
    if given == "digits" and not path.exists():
        return {"format": "digits"}
    if path.is_dir():
        found = next((path / name for name in ("data.yaml", "data.yml") if (path / name).is_file()), None)
        if found is None:
            usual = "give a data.yaml, or a COCO file of its train split"
            remedy = next((told for name, told in _TOLD_BY.items() if (path / name).is_file()), usual)
            raise InputError(f"{path}: is a folder without a data.yaml; {remedy}")
        path = found
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a data.yaml, a COCO JSON of the train split, or 'digits'")
    if path.suffix in SUFFIXES:
        return {"format": "yolo", "path": shown(path, beside)}
    if path.suffix == ".json":
        return _coco(path, beside)
    raise InputError(f"{path}: is neither YAML nor JSON; give a data.yaml, or a COCO JSON of the train split")


def shown(path: Path, beside: Path) -> str:
    """A path as the recipe says it: from its own folder where it lies in there, else whole."""
    whole, folder = path.resolve(), beside.resolve()
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else whole.as_posix()


def shape(data: DataSet) -> Shape:
    """Sizes and counts."""
    train = data.splits["train"].images
    sides = [max(image.height_px, image.width_px) for image in train]
    boxes = np.concatenate([image.boxes_px[~image.is_crowd] for image in train]) if train else np.zeros((0, 4))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    small = float(np.quantile(np.sqrt(areas), 0.25)) if len(areas) else None
    return Shape(len(train), len(data.splits["val"].images), int(np.quantile(sides, 0.9)), small)


def _coco(train: Path, beside: Path) -> dict[str, Any]:
    """The splits, by usual names: `train.json`, `instances_train2017.json`, `train/_annotations.coco.json`."""
    splits: dict[str, Any] = {"train": _files(train, "train", beside)}
    for split, names in _SPLITS.items():
        others = [other for name in names if (named := _named(train, name)) is not None and (other := _there(named))]
        if others:
            splits[split] = _files(others[0], split, beside)
    if "val" not in splits:
        tried = [str(other) for name in _VAL if (other := _named(train, name))]
        looked = f"looked for {listed(tried)}" if tried else "its name does not say 'train'"
        raise InputError(f"{train}: no annotations of a val split beside it ({looked}); name both in a recipe by hand")
    return {"format": "coco", **splits}


def _named(train: Path, split: str) -> Path | None:
    """The file of another split: `train` is replaced in the file's name, else in its folder's."""
    if "train" in train.name.lower():
        return train.with_name(re.sub(r"train(?!.*train)", split, train.name, flags=re.IGNORECASE))
    folder = train.parent
    if "train" not in folder.name.lower():
        return None
    return folder.with_name(re.sub("train", split, folder.name, flags=re.IGNORECASE)) / train.name


def _there(file: Path) -> Path | None:
    """A file by its name, else by one that differs in case alone: CVAT writes `instances_Validation.json`."""
    if file.is_file():
        return file
    beside = file.parent.iterdir() if file.parent.is_dir() else ()
    return next((other for other in sorted(beside) if other.name.lower() == file.name.lower()), None)


def _files(annotations: Path, split: str, beside: Path) -> dict[str, str]:
    first = _first_image(annotations)
    found = next((folder for folder in _image_folders(annotations, split) if (folder / first).is_file()), None)
    if found is None:
        tried = listed(dict.fromkeys(str(folder) for folder in _image_folders(annotations, split)))
        raise InputError(f"{annotations}: image '{first}' is in none of {tried}; name the folder in a recipe by hand")
    return {"images": shown(found, beside), "annotations": shown(annotations, beside)}


def _image_folders(annotations: Path, split: str) -> list[Path]:
    folder, stem = annotations.parent, annotations.stem.removeprefix("instances_")
    names = dict.fromkeys((stem, split, *_SPLITS.get(split, ())))
    roots = (folder, folder.parent)
    inside = [root / part / name for root in roots for part in ("images", "") for name in names]
    return [folder, *inside, folder / "images", folder.parent / "images"]


def _first_image(annotations: Path) -> str:
    try:
        content: Any = json.loads(read_text(annotations, encoding="utf-8-sig"))
        images: Mapping[str, Any] = content["images"][0]
        return str(images["file_name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{annotations}: is no COCO JSON with images ({type(error).__name__}); give one") from error
