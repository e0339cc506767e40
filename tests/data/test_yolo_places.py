"""The YOLO layout: where images and labels lie, and what lies beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.data import problems
from edgekd.data.yolo_labels import label_path
from edgekd.errors import InputError
from tests.data.small_sets import counts, label, picture, read_yolo, yolo_set


def test_what_lies_with_the_set_and_is_not_read_is_counted(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "c", "1 0.5 0.5 0.5 0.5")
    label(root, "val", "deep/c", "1 0.5 0.5 0.5 0.5")
    (root / "labels/train/b.txt").rename(root / "labels/train/b.TXT")
    (root / "labels/train.cache").touch()
    for name in ("images/train/film.gif", "images/train/a.txt", "labels/val/classes.txt", "labels/val/a.xml"):
        (root / name).touch()
    data = read_yolo(root, tmp_path)
    assert {(one.split, one.kind): one.examples for one in data.problems} == {
        ("train", problems.UNREAD_FILE): ("a.txt", "film.gif", "b.TXT"),
        ("train", problems.LABELS_ALONE): ("c.txt",),
        ("val", problems.LABELS_ALONE): ("deep/c.txt",),
        ("val", problems.UNREAD_FILE): ("a.xml",),
    }
    assert data.summaries["train"].without_labels == 1
    assert data.warnings[-2].startswith("train: 1 of 2 images have no label file and count as background; add an empty")


def test_labels_beside_their_images_and_splits_by_lists(tmp_path: Path) -> None:
    """Lists of one folder: the labels of the other split, and of images that no list names, are not alone."""
    root = tmp_path / "set"
    for seed, stem in enumerate(("a", "b", "c")):
        picture(root / f"pictures/{stem}.png", seed=seed)
        (root / f"pictures/{stem}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "pictures/d.txt").touch()
    (root / "pictures/train.txt").write_text("a.png\n")
    (root / "pictures/val.txt").write_text("b.png\n")
    (root / "data.yaml").write_text("train: pictures/train.txt\nval: pictures/val.txt\nnc: 1\n")
    data = read_yolo(root, tmp_path)
    assert [(one.split, one.kind, one.examples) for one in data.problems] == [
        ("train", problems.LABELS_ALONE, ("d.txt",))
    ]


def test_a_split_that_is_not_there_is_named_where_it_was_looked_for(tmp_path: Path) -> None:
    """Exporters write `../valid/images` for a folder beside the data.yaml."""
    root = yolo_set(tmp_path / "set")
    (root / "data.yaml").write_text("train: ../images/train\nval: ../valid/images\nnc: 1\n")
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    tried = f"{tmp_path}/valid/images does not exist, nor does {root}/valid/images"
    assert caught.value.problems == (f"{root}/data.yaml: val: {tried}; correct the path",)


def test_lists_of_images_and_of_folders(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for seed, (stem, folder) in enumerate((("z", "images/one"), ("y", "images/one/deep"), ("x", "images/two"))):
        picture(root / folder / f"{stem}.png", seed=seed)
        text = root / folder.replace("images", "labels") / f"{stem}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "val.txt").write_text("./images/two/x.png\n\nimages/one/z.png\nimages/one/z.png\n")
    (root / "data.yaml").write_text("path: .\ntrain: [images/two, images/one]\nval: val.txt\nnc: 1\n")
    data = read_yolo(root, tmp_path, "skip")
    assert [truth.file_name for truth in data.splits["train"].images] == ["one/deep/y.png", "one/z.png", "two/x.png"]
    assert [truth.file_name for truth in data.splits["val"].images] == ["one/z.png", "two/x.png"]
    assert counts(data) == {("val", problems.DUPLICATE_FILE): 1, ("val", problems.SHARED_IMAGE): 2}
    assert data.class_names == ("class_0",)
    (root / "val.txt").write_text("notes.doc\n")
    with pytest.raises(InputError, match=r"1 lines name no image, e\.g\. notes\.doc"):
        read_yolo(root, tmp_path)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("/d/images/train/a.b.jpg", "/d/labels/train/a.b.txt"),
        ("/images/d/images/a.JPG", "/images/d/labels/a.txt"),
        ("/d/pictures/a.png", "/d/pictures/a.txt"),
    ],
)
def test_where_labels_are(image: str, text: str) -> None:
    assert label_path(Path(image)) == Path(text)
