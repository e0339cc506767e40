"""The COCO layout: what is read, and every fault, counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.data import problems
from edgekd.data.config import CocoData, load
from edgekd.errors import InputError
from tests.data.small_sets import coco_set, counts, picture, skipping, snapshot


def test_a_coco_set_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    before = snapshot(root)
    data = load(config, tmp_path / "run", root)
    assert snapshot(root) == before
    assert data.class_names == ("ant", "bee", "cat")  # in the order of 5, 7, 90
    first, second = data.splits["train"].images
    assert (first.image_id, first.file_name, first.height_px, first.width_px) == (10, "sub/a.png", 20, 40)
    assert first.boxes_px.tolist() == [[30.5, 10, 40, 20]]  # half a pixel outside, clipped
    assert first.class_ids.tolist() == [1]
    assert second.boxes_px.tolist() == [[1, 2, 4, 6], [0, 0, 40, 20]]
    assert second.class_ids.tolist() == [2, 0]
    assert second.is_crowd.tolist() == [False, True]


def test_faulty_coco_records_are_counted(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["images"] += [
            {"id": 20, "file_name": "other.png"},
            {"id": 21, "file_name": "b.png"},
            {"id": 22, "file_name": "../secret.png"},
            {"id": 23, "file_name": "/etc/x.png"},
            {"id": "x", "file_name": "c.png"},
            {"id": 24, "file_name": "gone.png"},
            {"id": 25, "file_name": "turned.png", "height": 40, "width": 20},
            7,
        ]
        valid = {"image_id": 20, "category_id": 5}
        content["annotations"] += [
            {"id": 3, **valid, "bbox": [1, 1, 2, 2]},
            {"id": 4, "image_id": 99, "category_id": 5, "bbox": [1, 1, 2, 2]},
            {"id": 5, "image_id": 20, "category_id": 6, "bbox": [1, 1, 2, 2]},
            {"id": 6, **valid, "bbox": [1, 1, 2]},
            {"id": 7, **valid},
            {"id": 8, **valid, "bbox": [1, 1, float("nan"), 2]},
            {"id": 9, **valid, "bbox": [1, 1, "3", 2]},
            {"id": 10, **valid, "bbox": [1, 1, -1, 2]},
            {"id": 11, **valid, "bbox": [1, 1, 0, 2]},
            {"id": 12, **valid, "bbox": [35, 1, 10, 2]},
            {"image_id": 20, "category_id": 5, "bbox": [1, 1, 2, 2]},
            {"id": 13, "image_id": 24, "category_id": 5, "bbox": [1, 1, 2, 2]},
            None,
        ]

    root = tmp_path / "set"
    config = coco_set(root, spoil)
    picture(root / "images" / "turned.png")
    data = load(skipping(config), tmp_path / "run", root)
    assert counts(data) == {
        ("train", problems.DUPLICATE_IMAGE_ID): 1,
        ("train", problems.DUPLICATE_FILE): 1,
        ("train", problems.BROKEN_IMAGE): 4,
        ("train", problems.DUPLICATE_ANNOTATION_ID): 1,
        ("train", problems.UNKNOWN_IMAGE): 1,
        ("train", problems.CLASS_RANGE): 1,
        ("train", problems.BROKEN_ANNOTATION): 4,
        ("train", problems.NOT_A_NUMBER): 2,
        ("train", problems.NEGATIVE_SIZE): 1,
        ("train", problems.NO_AREA): 1,
        ("train", problems.OUTSIDE): 1,
        ("train", problems.MISSING_IMAGE): 1,
        ("train", problems.SIZE_DIFFERS): 1,
    }
    assert [truth.image_id for truth in data.splits["train"].images] == [10, 20]
    assert data.splits["train"].images[1].class_ids.tolist() == [2, 0]
    with pytest.raises(InputError) as caught:
        load(config, tmp_path / "run", root)
    assert len(caught.value.problems) == 13
    assert f"{root}/train.json: train: duplicate image id: 1 found, e.g. images[2] (id 20); mend" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "must be an object with images, annotations and categories; it is a list"),
        ("{", "is not JSON"),
        ('{"images": [], "annotations": 3}', "annotations: must be a list"),
        ('{"images": [], "annotations": [], "categories": []}', "categories: empty"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
         r"categories\[1\]: id 1 is given twice"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
         r"categories\[1\]: name 'a' is given twice"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}',
         r"categories\[0\]: needs a whole number as id"),
        ('{"images": [], "annotations": [], "categories": [{"id": 5, "name": "ant"}]}', "categories differ from those"),
    ],
)  # fmt: skip
def test_a_file_without_cocos_structure_is_refused(content: str, said: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    config = coco_set(root)
    (root / "val.json").write_text(content)
    with pytest.raises(InputError, match=said):
        load(skipping(config), tmp_path / "run", root)


def test_missing_coco_paths_are_all_named(tmp_path: Path) -> None:
    parts = {split: {"images": f"no-{split}", "annotations": "none.json"} for split in ("train", "val")}
    with pytest.raises(InputError) as caught:
        load(CocoData.model_validate({"format": "coco", **parts}), tmp_path / "run", tmp_path)
    said = [problem.split(":")[0] for problem in caught.value.problems]
    assert said == ["data.train.images", "data.train.annotations", "data.val.images", "data.val.annotations"]
