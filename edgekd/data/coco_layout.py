"""The COCO layout: per split an image folder and one JSON with images, annotations and categories.

Category ids may have gaps; they become 0..K-1 in order of id. Crowd annotations are kept and marked.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.data import problems
from edgekd.data.labels import RawBox, RawImage, assemble, finite
from edgekd.data.problems import ProblemLog
from edgekd.errors import InputError
from edgekd.types import Split


@dataclass(frozen=True)
class CocoFile:
    """One annotation file, its structure checked but not its records.

    Attributes:
        categories: COCO category id -> class name, in order of id.
        images, annotations: the records as they are.
    """

    path: Path
    image_dir: Path
    categories: dict[int, str]
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
        content = json.loads(annotations.read_text(encoding="utf-8-sig"))
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
    return CocoFile(annotations, folder, categories, content["images"], content["annotations"])


def class_names(files: dict[str, CocoFile]) -> tuple[str, ...]:
    """The names that all splits share, in order of category id.

    Raises:
        InputError: two splits have other categories.
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
    return tuple(first.categories.values())


def read_split(split: str, file: CocoFile, channels: int, log: ProblemLog, cache: Path) -> Split:
    """Check the records of `file` and its images; faults go to `log`.

    Raises:
        InputError: no images, or no label at all.
    """
    records = _image_records(split, file, log)
    listed = {number for record in file.images if (number := _whole(_get(record, "id"))) is not None}
    boxes = _boxes(split, file, listed, log)
    images = [
        RawImage(number, file.image_dir / record["file_name"], tuple(boxes.get(number, ())), _size(record))
        for number, record in sorted(records.items())
    ]
    return assemble(split, images, file.image_dir, channels=channels, log=log, cache=cache)


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
    for index, record in enumerate(records):
        number, name = _whole(_get(record, "id")), _get(record, "name")
        if number is None or not isinstance(name, str) or not name:
            faults.append(f"categories[{index}]: needs a whole number as id and a name")
        elif number in found:
            faults.append(f"categories[{index}]: id {number} is given twice; every category needs an id of its own")
        elif name in found.values():
            faults.append(f"categories[{index}]: name '{name}' is given twice; every category needs its own name")
        else:
            found[number] = name
    if not records:
        faults.append("categories: empty; at least one is needed")
    return dict(sorted(found.items())), faults


def _image_records(split: str, file: CocoFile, log: ProblemLog) -> dict[int, dict[str, Any]]:
    """Usable records by image id; of duplicates the first one stays."""
    records: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    for index, record in enumerate(file.images):
        number, name = _whole(_get(record, "id")), _get(record, "file_name")
        fault = _record_fault(record, number, name)
        if fault or number is None:
            log.add(split, problems.BROKEN_IMAGE, f"images[{index}] ({fault})")
        elif number in records:
            log.add(split, problems.DUPLICATE_IMAGE_ID, f"images[{index}] (id {number})")
        elif name in names:
            log.add(split, problems.DUPLICATE_FILE, f"images[{index}] ({name})")
        else:
            records[number] = record
            names.add(name)
    return records


def _record_fault(record: Any, number: int | None, name: Any) -> str:
    if number is None:
        return "id is not a whole number"
    if not isinstance(name, str) or not name or "\0" in name:
        return "no file_name"
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return f"file_name {name} leads out of the image folder"
    sizes = [record.get(side) for side in ("height", "width")]
    if any(size is not None and _whole(size) is None for size in sizes):
        return "height and width are not whole numbers"
    return ""


def _boxes(split: str, file: CocoFile, listed: set[int], log: ProblemLog) -> dict[int, list[RawBox]]:
    """Boxes by image id. Annotations of an image whose own record is faulty fall with it, uncounted."""
    classes = {category: index for index, category in enumerate(file.categories)}
    boxes: dict[int, list[RawBox]] = defaultdict(list)
    seen: set[int] = set()
    for index, record in enumerate(file.annotations):
        number, image_id = _whole(_get(record, "id")), _whole(_get(record, "image_id"))
        category, corners = _whole(_get(record, "category_id")), _get(record, "bbox")
        where = f"annotations[{index}]"
        if number is None or image_id is None or category is None:
            log.add(split, problems.BROKEN_ANNOTATION, f"{where} (id, image_id or category_id is no whole number)")
        elif number in seen:
            log.add(split, problems.DUPLICATE_ANNOTATION_ID, f"{where} (id {number})")
        elif image_id not in listed:
            log.add(split, problems.UNKNOWN_IMAGE, f"{where} (image_id {image_id})")
        elif category not in classes:
            log.add(split, problems.CLASS_RANGE, f"{where} (category_id {category})")
        else:
            seen.add(number)
            box = _corners(split, where, corners, log)
            if box is not None:
                crowd = bool(record.get("iscrowd", 0))
                boxes[image_id].append(RawBox(where, classes[category], box, is_crowd=crowd))
    return boxes


def _corners(split: str, where: str, given: Any, log: ProblemLog) -> tuple[float, float, float, float] | None:
    if not isinstance(given, list) or len(given) != 4:
        log.add(split, problems.BROKEN_ANNOTATION, f"{where} (bbox is not [x, y, width, height])")
        return None
    values = [number for value in given if not isinstance(value, str) and (number := finite(value)) is not None]
    if len(values) != 4:
        log.add(split, problems.NOT_A_NUMBER, f"{where} (bbox {given})")
        return None
    x, y, wide, tall = values
    if wide < 0 or tall < 0:
        log.add(split, problems.NEGATIVE_SIZE, f"{where} ({wide:g} x {tall:g})")
        return None
    return x, y, x + wide, y + tall


def _get(record: Any, key: str) -> Any:
    return record.get(key) if isinstance(record, dict) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    height, width = record.get("height"), record.get("width")
    return None if height is None or width is None else (height, width)
