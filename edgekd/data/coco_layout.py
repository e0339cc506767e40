"""The COCO layout: per split an image folder and one JSON with images, annotations and categories.

Category ids may have gaps; they become 0..K-1 in order of id.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekd.data import beside
from edgekd.data.class_names import name_fault
from edgekd.data.coco_records import field_of, images_of, listed_paths, shown, whole
from edgekd.data.labels import Checked, assemble
from edgekd.data.problems import ProblemLog
from edgekd.errors import InputError
from edgekd.files import read_text


@dataclass(frozen=True)
class CocoFile:
    """One annotation file, its structure checked but not its records.

    Attributes:
        categories: COCO category id -> class name, in order of id.
        root: id of a category that is no class, but the heading of all others.
        images, annotations: the records as they are.
    """

    path: Path
    image_dir: Path
    categories: dict[int, str]
    root: int | None
    images: list[Any]
    annotations: list[Any]


def read_file(split: str, images: Path, annotations: Path) -> CocoFile:
    """Read one annotation file.

    Raises:
        InputError: a path is missing, or the file lacks COCO's structure; all faults at once.
    """
    faults = []
    if not images.is_dir():
        faults.append(f"data.{split}.images: {images} is not a folder; give the folder of the images")
    content: Any = None
    try:
        content = json.loads(read_text(annotations, encoding="utf-8-sig"))
    except OSError as error:
        faults.append(f"data.{split}.annotations: {annotations} cannot be read ({error.strerror}); give a COCO JSON")
    except (ValueError, RecursionError) as error:
        faults.append(f"data.{split}.annotations: {annotations} is not JSON ({error}); give a COCO JSON")
    categories: dict[int, str] = {}
    if content is not None:
        faults.extend(f"{annotations}: {fault}" for fault in _structure_faults(content))
    if not faults:
        categories, wrong = _categories(content["categories"])
        faults.extend(f"{annotations}: {fault}" for fault in wrong)
    if faults:
        raise InputError(*faults)
    folder = Path(os.path.normpath(images.absolute()))
    root = _root(content["categories"], content["annotations"])
    return CocoFile(annotations, folder, categories, root, content["images"], content["annotations"])


def require_same_categories(files: dict[str, CocoFile]) -> None:
    """Refuse splits of other categories than those of the first.

    Raises:
        InputError: one line per such split.
    """
    first_split, first = next(iter(files.items()))
    faults = []
    for file in files.values():
        if file.categories != first.categories:
            differing = sorted(dict(file.categories.items() ^ first.categories.items()))
            faults.append(
                f"{file.path}: categories differ from those of {first_split} ({first.path.name}) at ids "
                f"{', '.join(map(str, differing[:5]))}; use the same categories in every split"
            )
    if faults:
        raise InputError(*faults)


def without_root(files: dict[str, CocoFile], log: ProblemLog) -> dict[str, CocoFile]:
    """The files without the category 0 that Roboflow writes above the classes, where no split uses it as a class."""
    roots = {file.root for file in files.values()}
    root = next(iter(roots))
    if len(roots) > 1 or root is None:
        return files
    name = next(iter(files.values())).categories[root]
    log.warn(
        f"category {root} '{name}' is no class and is left out: no annotation has it, and all other categories name it "
        "as their supercategory, as Roboflow writes; delete it from categories"
    )
    return {
        split: replace(file, categories={number: text for number, text in file.categories.items() if number != root})
        for split, file in files.items()
    }


def read_splits(files: dict[str, CocoFile], channels: int, log: ProblemLog, cache: Path) -> dict[str, Checked]:
    """Check the records of all files and their images; faults go to `log`."""
    listed: set[Path] = set()
    checked = {}
    for split, file in files.items():
        images = images_of(split, file.image_dir, file.images, file.annotations, tuple(file.categories), log)
        listed |= listed_paths(file.image_dir, file.images)
        checked[split] = assemble(
            split, images, file.image_dir, listed=len(file.images), channels=channels, log=log, cache=cache
        )
    unread = beside.UnreadFiles(log, ignored={Path(os.path.normpath(file.path.absolute())) for file in files.values()})
    for split, file in files.items():
        unread.unlisted(split, file.image_dir, listed)
    return checked


def _structure_faults(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return [f"must be an object with images, annotations and categories; it is a {type(content).__name__}"]
    return [
        f"{part}: must be a list; export the file as COCO detection JSON"
        for part in ("images", "annotations", "categories")
        if not isinstance(content.get(part), list)
    ]


def _categories(records: list[Any]) -> tuple[dict[int, str], list[str]]:
    faults: list[str] = []
    found: dict[int, str] = {}
    names: set[str] = set()
    for index, record in enumerate(records):
        where, number, name = f"categories[{index}]", whole(field_of(record, "id")), field_of(record, "name")
        if number is None:
            faults.append(f"{where}: id {shown(field_of(record, 'id'))} is no whole number; number the categories")
        elif fault := name_fault(name):
            faults.append(f"{where}: name {fault}")
        elif number in found:
            faults.append(f"{where}: id {number} is given twice; every category needs an id of its own")
        elif name in names:
            faults.append(f"{where}: name '{name}' is given twice; every category needs its own name")
        else:
            found[number] = str(name)
            names.add(str(name))
    if not records:
        faults.append("categories: empty; at least one is needed")
    return dict(sorted(found.items())), faults


def _root(categories: list[Any], annotations: list[Any]) -> int | None:
    """A category of the supercategory "none" that is the supercategory of all others, and that no annotation has."""
    for record in categories:
        others = [other for other in categories if other is not record]
        is_heading = others and all(field_of(other, "supercategory") == record["name"] for other in others)
        if is_heading and record.get("supercategory") == "none":
            number = whole(record["id"])
            used = any(whole(field_of(annotation, "category_id")) == number for annotation in annotations)
            return None if used else number
    return None
