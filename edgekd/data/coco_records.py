"""Records of a COCO file: images and annotations, parsed, with every fault named by its id.

Whole numbers may be written as floats (`96.0`); `iscrowd` is 0, 1, true or false, in quotes or not; so may numbers of a
bbox be, as Roboflow writes some. Text in the place of an id is a fault. Crowd annotations are kept and marked.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd import plain
from edgekd.data import problems
from edgekd.data.labels import Corners, RawBox, RawImage, finite
from edgekd.data.problems import ProblemLog
from edgekd.files import path_fault

_LARGEST_EXACT = 2**53  # of whole numbers in a float
_LARGEST_ID = 2**63
_SLIGHT_TURN = 5.0  # degrees of a box that it hardly matters to


def images_of(
    split: str, folder: Path, images: Sequence[Any], annotations: Sequence[Any], categories: Sequence[int],
    log: ProblemLog,
) -> list[RawImage]:  # fmt: skip
    """Usable images of a file with their boxes; faults go to `log`.

    Args:
        categories: their ids; the place of one is its class id.
    """
    records = _image_records(split, folder, images, log)
    listed = {number for record in images if (number := whole(field_of(record, "id"))) is not None}
    reader = _AnnotationReader(split, listed, categories, log)
    reader.read(annotations)
    return [
        RawImage(number, path, tuple(reader.boxes[number]), _size(record), faulty=number in reader.faulty)
        for number, (path, record) in sorted(records.items())
    ]


def listed_paths(folder: Path, images: Sequence[Any]) -> set[Path]:
    """Files that the records name, faulty records included."""
    found = (_path(folder, field_of(record, "file_name")) for record in images)
    return {path for path in found if isinstance(path, Path)}


def field_of(record: Any, key: str) -> Any:
    """A field of what should be an object; None where it is none."""
    return record.get(key) if isinstance(record, dict) else None


def whole(value: Any) -> int | None:
    """A whole number, be it written as 96 or 96.0; None for all else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) < _LARGEST_ID else None
    if isinstance(value, float) and value.is_integer() and abs(value) < _LARGEST_EXACT:
        return int(value)
    return None


def shown(value: Any) -> str:
    """A value for messages; says so where a number is text."""
    return f"{plain.value(value)} (text)" if isinstance(value, str) else plain.value(value)


def _image_records(
    split: str, folder: Path, records: Sequence[Any], log: ProblemLog
) -> dict[int, tuple[Path, dict[str, Any]]]:
    """Usable records by image id. Of two with one id or one file none is: whose their boxes are is not known."""
    found: dict[int, tuple[Path, dict[str, Any]]] = {}
    owners: dict[Path, int] = {}
    ambiguous: set[int] = set()
    for index, record in enumerate(records):
        number, path = whole(field_of(record, "id")), _path(folder, field_of(record, "file_name"))
        if number is None:
            log.add(split, problems.BROKEN_IMAGE, f"images[{index}] (id {shown(field_of(record, 'id'))})")
        elif isinstance(path, str):
            log.add(split, problems.BROKEN_IMAGE, f"image {number} ({path})")
        elif fault := _size_fault(record):
            log.add(split, problems.BROKEN_IMAGE, f"image {number} ({fault})")
        elif number in found:
            log.add(split, problems.DUPLICATE_IMAGE_ID, f"image {number} ({found[number][0].name} and {path.name})")
            ambiguous.add(number)
        elif path in owners:
            log.add(split, problems.TWO_RECORDS, f"images {owners[path]} and {number} ({path.name})")
            ambiguous |= {number, owners[path]}
        else:
            found[number] = path, record
            owners[path] = number
    return {number: entry for number, entry in found.items() if number not in ambiguous}


def _path(folder: Path, name: Any) -> Path | str:
    """The file of a record, below `folder`; or what is wrong with its name."""
    if not isinstance(name, str) or not name or "\0" in name:
        return f"file_name {shown(name)} is no file name"
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return f"file_name {name!a} holds half of a surrogate pair"
    if fault := path_fault(name):
        return f"file_name {shown(name)} {fault}"
    path = Path(os.path.normpath(folder / name))
    if path.is_relative_to(folder):
        return path
    if Path(name).is_absolute():  # the folder may have been named by a link
        real, real_folder = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
        if real.is_relative_to(real_folder):
            return folder / real.relative_to(real_folder)
    return f"file_name {name} leads out of the image folder {folder}"


def _size_fault(record: dict[str, Any]) -> str:
    for side in ("height", "width"):
        size = record.get(side)
        if size is not None and whole(size) is None:
            return f"{side} {shown(size)} is no whole number"
    return ""


def _size(record: dict[str, Any]) -> tuple[int, int] | None:
    height, width = whole(record.get("height")), whole(record.get("width"))
    return None if height is None or width is None else (height, width)


class _AnnotationReader:
    """Boxes by image id. Annotations of an image whose own record is faulty fall with it, uncounted.

    Attributes:
        boxes: image id -> boxes.
        faulty: ids of images of which an annotation is.
    """

    def __init__(self, split: str, listed: set[int], categories: Sequence[int], log: ProblemLog) -> None:
        self._split, self._listed, self._log = split, listed, log
        self._classes = {category: index for index, category in enumerate(categories)}
        self._ids: set[int] = set()
        self._known: set[tuple[int, int, Corners, bool]] = set()
        self.boxes: dict[int, list[RawBox]] = defaultdict(list)
        self.faulty: set[int] = set()

    def read(self, records: Sequence[Any]) -> None:
        in_shares = _in_shares(records)
        if turned := sum(map(_is_turned, records)):
            self._log.warn(
                f"{self._split}: boxes that attributes.rotation turns (CVAT): {turned}; they are read unturned; "
                "export oriented boxes, as docs/from-labelling-tools.md says"
            )
        for index, record in enumerate(records):
            image_id = whole(field_of(record, "image_id"))
            number = whole(field_of(record, "id"))
            where = f"annotations[{index}]" if number is None else f"annotation {number}"
            where += "" if image_id is None else f" of image {image_id}"
            if image_id is not None and image_id not in self._listed:
                self._log.add(self._split, problems.UNKNOWN_IMAGE, where)
                continue
            fault, detail = self._fault(record, number, image_id)
            crowd = _flag(field_of(record, "iscrowd"))
            if not fault and crowd is None:
                fault, detail = problems.BROKEN_ANNOTATION, f"iscrowd {shown(record['iscrowd'])} is neither 0 nor 1"
            if not fault and in_shares:
                fault, detail = problems.SHARES, f"bbox {record['bbox']}"
            if fault:
                self._log.add(self._split, fault, f"{where} ({detail})")
            if fault and image_id is not None:
                self.faulty.add(image_id)
            elif not fault and image_id is not None and number is not None:
                self._ids.add(number)
                class_id = self._classes[int(record["category_id"])]
                self._keep(image_id, RawBox(where, class_id, _corners(record["bbox"]), is_crowd=bool(crowd)))

    def _keep(self, image_id: int, box: RawBox) -> None:
        key = (image_id, box.class_id, box.corners, box.is_crowd)
        if key in self._known:
            self._log.add(self._split, problems.REPEATED_ANNOTATION, box.where)
        self._known.add(key)
        self.boxes[image_id].append(box)

    def _fault(self, record: Any, number: int | None, image_id: int | None) -> tuple[str, str]:
        category, bbox = whole(field_of(record, "category_id")), field_of(record, "bbox")
        for key, value in (("id", number), ("image_id", image_id), ("category_id", category)):
            if value is None:
                return problems.BROKEN_ANNOTATION, f"{key} {shown(field_of(record, key))} is no whole number"
        if number in self._ids:
            return problems.DUPLICATE_ANNOTATION_ID, "an earlier one has this id"
        if category not in self._classes:
            return problems.CLASS_RANGE, f"category_id {category}"
        return self._box_fault(bbox)

    @staticmethod
    def _box_fault(bbox: Any) -> tuple[str, str]:
        if not isinstance(bbox, list) or len(bbox) != 4:
            return problems.BROKEN_ANNOTATION, f"bbox {shown(bbox)} is not [x, y, width, height]"
        if any(finite(value) is None for value in bbox):
            return problems.NOT_A_NUMBER, f"bbox {shown(bbox)}"
        wide, tall = map(float, bbox[2:])
        if min(wide, tall) < 0:
            return problems.NEGATIVE_SIZE, f"{wide:g} x {tall:g}"
        return "", ""


def _corners(bbox: Sequence[float | str]) -> Corners:
    x, y, wide, tall = map(float, bbox)
    return x, y, x + wide, y + tall


def _flag(value: Any) -> bool | None:
    if isinstance(value, str) and value in {"0", "1"}:
        return value == "1"
    if value is None or (isinstance(value, (bool, int, float)) and value in (0, 1)):
        return bool(value)
    return None


def _is_turned(record: Any) -> bool:
    angle = field_of(field_of(record, "attributes"), "rotation")
    degrees = None if isinstance(angle, str) else finite(angle)
    return degrees is not None and _SLIGHT_TURN <= degrees % 180 <= 180 - _SLIGHT_TURN


def _in_shares(records: Sequence[Any]) -> bool:
    """Whether all boxes of a file lie within the first pixel, which shares of 1 do and pixels do not."""
    broken = False
    for record in records:
        bbox = field_of(record, "bbox")
        values = [finite(value) for value in bbox] if isinstance(bbox, list) else []
        if any(value is None or not 0 <= value <= 1 for value in values):
            return False
        broken |= any(value not in (0, 1) for value in values)
    return broken
