"""Reads a file of detections: COCO's results JSON, a list of {image_id, category_id, bbox, score}.

`file_name` may name the image in the place of `image_id`. An object with such a list under `annotations` and COCO's
`categories` beside it says what its classes are called. Further keys are left alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.errors import InputError, unknown
from edgekd.files import read_text
from edgekd.types import FloatArray, IntArray

_NEEDED = ("category_id", "bbox", "score")


@dataclass(frozen=True)
class Results:
    """The detections of a file, in its order.

    Attributes:
        path: of the file.
        images: (R,) what each names its image by: a number, or a text.
        category_ids: (R,) as in the file.
        boxes_px: (R, 4) x1 y1 x2 y2, of original images; none is empty.
        scores: (R,) in 0..1.
        categories: id -> name, where the file has them.
    """

    path: Path
    images: tuple[int | str, ...]
    category_ids: IntArray
    boxes_px: FloatArray
    scores: FloatArray
    categories: Mapping[int, str] | None

    def columns(self, category_ids: Iterable[int], where: str) -> IntArray:
        """(R,) the place of each detection's category among these.

        Raises:
            InputError: a category that is none of them.
        """
        places = {number: place for place, number in enumerate(category_ids)}
        strange = sorted(set(self.category_ids.tolist()) - set(places))
        if strange:
            known = unknown("category_id", str(strange[0]), map(str, places))
            more = f", and {len(strange) - 1} others" if strange[1:] else ""
            raise InputError(
                f"{where}: {self.path}: {known}{more}; use those of the data, or write categories beside annotations"
            )
        return np.array([places[number] for number in self.category_ids.tolist()], np.int64)


def read(path: Path, where: str) -> Results:
    """Read and check a file.

    Args:
        where: key of the recipe, for messages.

    Raises:
        InputError: it cannot be read, has another structure, or a value that cannot be.
    """
    try:
        content = json.loads(read_text(path, encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); give a COCO results JSON") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {path} is not JSON ({error}); give a COCO results JSON") from None
    rows, categories = (content, None) if isinstance(content, list) else _of_object(content, f"{where}: {path}")
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f"{where}: {path} holds no detections; give a COCO results JSON: a list of {{image_id, category_id, bbox, "
            "score}"
        )
    _require(rows, f"{where}: {path}")
    boxes = np.array([row["bbox"] for row in rows], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))  # of an empty box there is nothing to learn
    return Results(
        path,
        tuple(_image(rows[index]) for index in kept),
        np.array([int(rows[index]["category_id"]) for index in kept], np.int64),
        boxes[kept].astype(np.float32),
        np.array([rows[index]["score"] for index in kept], np.float32),
        categories,
    )


def _of_object(content: Any, where: str) -> tuple[Any, dict[int, str] | None]:
    if not isinstance(content, dict):
        return None, None
    records = content.get("categories")
    if records is None:
        return content.get("annotations"), None
    whole = isinstance(records, list) and all(
        isinstance(one, dict) and _is_whole(one.get("id")) and isinstance(one.get("name"), str) for one in records
    )
    if not whole or len({one["id"] for one in records}) < len(records):
        raise InputError(f"{where}: categories: must be a list of {{id, name}}, each id once; correct them")
    return content.get("annotations"), {int(one["id"]): one["name"] for one in sorted(records, key=lambda o: o["id"])}


def _require(rows: list[Any], where: str) -> None:
    """Refuse records that are none, the first of each kind by its number."""
    wrong: dict[str, tuple[int, int]] = {}
    for index, row in enumerate(rows):
        if fault := _fault(row):
            first, count = wrong.get(fault, (index, 0))
            wrong[fault] = first, count + 1
    if wrong:
        raise InputError(
            *(f"{where}: [{first}]: {fault}{_more(count)}; correct the file" for fault, (first, count) in wrong.items())
        )


def _more(count: int) -> str:
    return f" (so have {count - 1:,} others)" if count > 1 else ""


def _fault(row: Any) -> str:
    """What is wrong with a record, or ""."""
    if not isinstance(row, dict):
        return "must be an object with image_id or file_name, category_id, bbox and score"
    missing = [key for key in _NEEDED if key not in row]
    missing += [] if "image_id" in row or "file_name" in row else ["image_id"]
    if missing:
        return f"lacks {', '.join(missing)}"
    return next((fault for sound, fault in _RULES if not sound(row)), "")


def _has_image(row: Mapping[str, Any]) -> bool:
    if "file_name" in row:
        return isinstance(row["file_name"], str)
    return isinstance(row["image_id"], str) or _is_whole(row["image_id"])


def _has_box(row: Mapping[str, Any]) -> bool:
    return isinstance(row["bbox"], list) and len(row["bbox"]) == 4 and all(map(_is_number, row["bbox"]))


def _has_score(row: Mapping[str, Any]) -> bool:
    return _is_number(row["score"]) and 0 <= row["score"] <= 1


def _image(row: Mapping[str, Any]) -> int | str:
    name = row["file_name"] if "file_name" in row else row["image_id"]
    return name if isinstance(name, str) else int(name)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_whole(value: Any) -> bool:
    return _is_number(value) and int(value) == value


_RULES: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (lambda row: _is_whole(row["category_id"]), "category_id must be a whole number"),
    (_has_image, "image_id must be a whole number or a text, file_name a text"),
    (_has_box, "bbox must be four numbers, x y width height in px"),
    (lambda row: min(row["bbox"][2:]) >= 0, "bbox has a width or height below 0; it must be x y width height in px"),
    (_has_score, "score must be a number from 0 to 1"),
)
