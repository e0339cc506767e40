"""Images without labels: what is found in a folder, and what becomes of it in a train split."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgekd.data.config import YoloData, load
from edgekd.data.digits import generate
from edgekd.data.unlabelled import UnlabelledData, extended, in_vain
from edgekd.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> YoloData:
    generate(tmp_path / "set", imgsz=32, train=3, val=2, test=1, seed=0)
    generate(tmp_path / "other", imgsz=32, train=2, val=1, test=1, seed=1)
    (tmp_path / "more/deep").mkdir(parents=True)
    for number, name in ((1, "more/b.png"), (2, "more/deep/a.png")):
        shutil.copy(tmp_path / f"other/images/train/00000{number}.png", tmp_path / name)
    (tmp_path / "more/broken.png").write_bytes(b"no image")
    (tmp_path / "more/notes.txt").write_text("0 0.5 0.5 0.1 0.1")
    return YoloData.model_validate({"format": "yolo", "path": "set/data.yaml", "unlabelled": "more"})


def test_what_is_in_the_folder(data: YoloData, tmp_path: Path) -> None:
    found = load(data, tmp_path / "run", tmp_path)
    assert found.unlabelled is not None
    split = found.unlabelled.split
    assert [truth.file_name for truth in split.images] == ["b.png", "deep/a.png"]
    assert all(not len(truth.class_ids) and truth.boxes_px.shape == (0, 4) for truth in split.images)
    assert [(problem.kind, problem.examples) for problem in found.unlabelled.problems] == [
        ("unreadable image", ("broken.png",))
    ]
    assert found.as_json()["unlabelled"] == {"images": 2, "left_out": 1, "content_hash": split.content_hash}
    assert "the 2 images without labels make the student's epochs longer than the control's" in found.warnings
    assert set(found.splits) == {"train", "val", "test"}  # what AP is measured on is as it was
    alone = load(data.model_copy(update={"unlabelled": None}), tmp_path / "run", tmp_path)
    assert {name: one.content_hash for name, one in alone.splits.items()} == {
        name: one.content_hash for name, one in found.splits.items()
    }
    assert "unlabelled" not in alone.as_json()


def test_images_that_are_measured_are_warned_of(data: YoloData, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "set/images/val/000001.png", tmp_path / "more/copy.png")
    shutil.copy(tmp_path / "set/images/train/000001.png", tmp_path / "more/seen.png")
    warnings = load(data, tmp_path / "run", tmp_path).warnings
    assert "1 images without labels are in val as well, by which the student is measured" in warnings
    assert "1 images without labels are in train as well" in warnings


def test_they_stand_behind_the_train_images(data: YoloData, tmp_path: Path) -> None:
    found = load(data, tmp_path / "run", tmp_path)
    assert found.unlabelled is not None
    train = found.splits["train"]
    both = extended(train, found.unlabelled.split)
    assert both.images[:3] == tuple(train.images) and len(both.images) == 5
    assert [Path(truth.file_name) for truth in both.images[3:]] == [
        tmp_path / "more/b.png",
        tmp_path / "more/deep/a.png",
    ]
    assert len({truth.image_id for truth in both.images}) == 5
    assert both.content_hash not in (train.content_hash, found.unlabelled.split.content_hash)


@pytest.mark.parametrize(
    ("folder", "problem"),
    [("nowhere", "no folder"), ("more/empty", "holds no image that can be used; correct the path")],
)
def test_a_folder_of_nothing_is_refused(folder: str, problem: str, data: YoloData, tmp_path: Path) -> None:
    (tmp_path / "more/empty").mkdir()
    asked = data.model_copy(update={"unlabelled": UnlabelledData(images=folder)})
    with pytest.raises(InputError, match=problem):
        load(asked, tmp_path / "run", tmp_path)


def test_what_nobody_would_learn_from() -> None:
    plain, labelled = UnlabelledData(images="x"), UnlabelledData(images="x", labels="teacher", min_score=0.3)
    assert in_vain(plain, has_teacher=True, has_methods=True) == ""
    assert in_vain(plain, has_teacher=True, has_methods=False).startswith("images: no method learns from them")
    assert in_vain(labelled, has_teacher=True, has_methods=False) == ""
    assert in_vain(labelled, has_teacher=False, has_methods=True).startswith("labels: teacher: there is none")
    with pytest.raises(ValidationError, match="min_score: only with 'labels: teacher'"):
        UnlabelledData(images="x", min_score=0.3)
