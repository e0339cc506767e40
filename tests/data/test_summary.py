"""What a split holds, counted by hand."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from edgekd.data import problems
from edgekd.data.config import YoloData, load, notices
from tests.data.small_sets import coco_set, counts, label, picture, read_yolo, yolo_set

BCCD = Path(os.environ.get("EDGEKD_BCCD", "bccd"))  # the photographs of blood cells as a YOLO data set


def test_every_count_of_a_split(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    for seed, name in enumerate(("wide", "empty", "bare"), start=20):
        picture(root / f"images/train/{name}.png", 400, 200, seed=seed)
    label(root, "train", "empty", "")
    # 400 x 200 px: 31.9 x 32 px is small, 32 x 32 medium, 95.9 x 96 medium, 96 x 96 large
    label(root, "train", "wide", "0 0.2 0.5 0.07975 0.16", "0 0.2 0.5 0.08 0.16", "2 0.2 0.5 0.23975 0.48",
          "2 0.2 0.5 0.24 0.48")  # fmt: skip
    data = read_yolo(root, tmp_path)
    train = asdict(data.summaries["train"])
    assert train.pop("content_hash") == data.splits["train"].content_hash
    assert train == {
        "images": 5, "left_out": 0, "backgrounds": 2, "without_labels": 1, "objects": 6, "crowds": 0,
        "small": 3, "medium": 2, "large": 1, "objects_per_class": {"ant": 2, "bee": 2, "cat": 2}, "copies": 0,
        "in_train": None,
    }  # fmt: skip
    assert data.summaries["val"].in_train == 0
    assert data.warnings == (
        "train: 1 of 5 images have no label file and count as background; add an empty label file to those that are, "
        "or check where the labels are",
        "val: 2 of 3 classes have no object: ant, cat",
    )


def test_crowds_are_counted_apart(tmp_path: Path) -> None:
    data = load(coco_set(tmp_path / "set"), tmp_path / "run", tmp_path / "set")
    train = data.summaries["train"]
    assert (train.objects, train.crowds, train.backgrounds, train.without_labels) == (2, 1, 0, None)
    assert train.objects_per_class == {"ant": 0, "bee": 1, "cat": 1}


def test_copies_and_images_of_train_are_told_by_their_content(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    for copy, original in (("train/c.png", "train/a.png"), ("val/c.png", "train/b.png"), ("val/d.png", "val/a.png")):
        (root / "images" / copy).write_bytes((root / "images" / original).read_bytes())
    data = read_yolo(root, tmp_path)
    assert counts(data) == {
        ("train", problems.COPIED_IMAGE): 1,
        ("val", problems.COPIED_IMAGE): 1,
        ("val", problems.SHARED_IMAGE): 1,
    }
    assert "val: image that is in train as well: 1 found (kept), e.g. c.png (b.png of train)" in notices(data.as_json())
    assert (data.summaries["val"].copies, data.summaries["val"].in_train) == (1, 1)


def test_a_val_split_that_is_train_is_a_warning(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [ant, bee]\n")
    data = read_yolo(root, tmp_path)
    assert data.warnings[1] == (
        "val: every image is in train as well, so AP on val does not show what the model has not seen"
    )
    assert data.summaries["val"].in_train == data.summaries["val"].images == 2


def test_images_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = yolo_set(tmp_path / "set")
    (root / "data.yaml").write_text("train: images/train\nval: images/train\nnames: [ant, bee]\n")
    first = read_yolo(root, tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("edgekd.data.images.inspect", refuse)
    assert read_yolo(root, tmp_path).as_json() == first.as_json()


def test_photographs_of_blood_cells_are_counted_as_their_source_says(tmp_path: Path) -> None:
    if not BCCD.is_dir():
        pytest.skip("EDGEKD_BCCD names no folder of photographs of blood cells")
    data = load(YoloData(format="yolo", path=str(BCCD / "data.yaml")), tmp_path, tmp_path)
    totals = {name: sum(part.objects_per_class[name] for part in data.summaries.values()) for name in data.class_names}
    assert totals == {"RBC": 4153, "WBC": 372, "Platelets": 361}
    assert {name: part.images for name, part in data.summaries.items()} == {"train": 292, "val": 72}
    assert notices(data.as_json()) == []
