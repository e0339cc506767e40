"""Reading files of detections: what is taken, and what is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.detectors.predictions.results import read
from edgekd.errors import InputError

ROW: dict[str, Any] = {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40.5], "score": 0.25}


def written(folder: Path, content: object) -> Path:
    path = folder / "found.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_as_coco_has_it(tmp_path: Path) -> None:
    named = {**ROW, "file_name": "a/b.jpg", "segmentation": [], "bbox": [0, 0, 5, 5]}
    empty = {**ROW, "bbox": [1, 1, 0, 5]}
    found = read(written(tmp_path, [ROW, empty, named]), "here")
    assert found.images == (7, "a/b.jpg")
    np.testing.assert_array_equal(found.boxes_px, np.float32([[10, 20, 40, 60.5], [0, 0, 5, 5]]))
    np.testing.assert_array_equal(found.scores, np.float32([0.25, 0.25]))
    assert found.category_ids.tolist() == [3, 3]
    assert found.categories is None
    assert found.columns([1, 3], "here").tolist() == [1, 1]


def test_categories_beside_it(tmp_path: Path) -> None:
    categories = [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "animal"}]
    found = read(written(tmp_path, {"annotations": [ROW], "categories": categories, "info": {}}), "here")
    assert found.categories == {3: "cat", 9: "dog"}


def test_an_unknown_category(tmp_path: Path) -> None:
    found = read(written(tmp_path, [ROW, {**ROW, "category_id": 5}]), "r.yaml: teacher.predictions")
    with pytest.raises(InputError) as caught:
        found.columns([0, 1], "r.yaml: teacher.predictions")
    (line,) = caught.value.problems
    assert line.startswith(f"r.yaml: teacher.predictions: {tmp_path / 'found.json'}: unknown category_id '3'")
    assert "(known: 0, 1)" in line and "and 1 others" in line


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"score": 1.5}, "score must be a number from 0 to 1"),
        ({"score": -0.1}, "score must be a number from 0 to 1"),
        ({"score": float("nan")}, "score must be a number from 0 to 1"),
        ({"score": True}, "score must be a number from 0 to 1"),
        ({"bbox": [1, 2, -3, 4]}, "bbox has a width or height below 0"),
        ({"bbox": [1, 2, 3]}, "bbox must be four numbers"),
        ({"bbox": [1, 2, 3, float("inf")]}, "bbox must be four numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "bbox must be four numbers"),
        ({"category_id": 1.5}, "category_id must be a whole number"),
        ({"image_id": [1]}, "image_id must be a whole number or a text"),
        ({"file_name": 3}, "image_id must be a whole number or a text"),
    ],
)
def test_what_cannot_be(change: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = written(tmp_path, [ROW, {**ROW, **change}, {**ROW, **change}])
    with pytest.raises(InputError) as caught:
        read(path, "here")
    (line,) = caught.value.problems
    assert line.startswith(f"here: {path}: [1]: {fault}")
    assert line.endswith("(so have 1 others); correct the file")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "holds no detections"),
        ({}, "holds no detections"),
        ({"annotations": {}}, "holds no detections"),
        (3, "holds no detections"),
        ([3], r"\[0\]: must be an object"),
        ([{"image_id": 1, "bbox": [0, 0, 1, 1]}], r"\[0\]: lacks category_id, score"),
        ([{"category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}], r"\[0\]: lacks image_id"),
        ({"annotations": [ROW], "categories": [{"id": 1}]}, "categories: must be a list"),
        ({"annotations": [ROW], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "each id once"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_what_is_no_such_file(content: object, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=fault):
        read(written(tmp_path, content), "here")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.json", "here")
