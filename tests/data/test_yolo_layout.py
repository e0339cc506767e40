"""The YOLO layout: what is read, and every fault, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekd.data import problems
from edgekd.errors import InputError
from tests.data.small_sets import counts, label, picture, read_yolo, snapshot, yolo_set


def test_a_yolo_set_is_read_and_left_untouched(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "b", "0 0.25 0.5 0.25 1", "", "2 0.1 0.2 0.9 0.2 0.5 0.8")
    (root / "labels/val/b.txt").unlink()
    before = snapshot(root)
    data = read_yolo(root, tmp_path)
    assert snapshot(root) == before
    assert data.class_names == ("ant", "bee", "cat")
    assert data.channels == 3
    assert data.problems == ()
    first, second = data.splits["train"].images
    assert (first.image_id, first.file_name, first.height_px, first.width_px) == (1, "a.png", 20, 40)
    assert first.boxes_px.tolist() == [[10, 5, 30, 15]]
    assert second.boxes_px.tolist() == [[5, 0, 15, 20], [4, 4, 36, 16]]
    assert second.class_ids.tolist() == [0, 2]
    assert second.is_crowd.tolist() == [False, False]
    assert data.splits["val"].images[1].boxes_px.shape == (0, 4)


def test_faulty_labels_are_counted_and_left_out(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(
        root, "train", "a",
        "0 0.5 0.5 0.5 0.5", "0 0.50 .5 0.5 5e-1",       # repeated
        "3 0.5 0.5 0.5 0.5", "-1 0.5 0.5 0.5 0.5", "1.5 0.5 0.5 0.5 0.5", "12 0.5 0.5 0.1 0.1",  # class x 4
        "0 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5 0.5", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4",  # columns x 3
        "0 0.5 nan 0.5 0.5", "0 0.5 inf 0.5 0.5", "cat 0.5 0.5 0.5 0.5",  # numbers x 3
        "0 0.5 0.5 -0.5 0.5",                           # negative
        "0 0.5 0.5 0 0.5", "0 0.1 0.1 0.1 0.5 0.1 0.9",  # no area x 2
        "0 0.9 0.5 0.5 0.5", "0 0.5 0.02 0.2 0.2",      # sticks out x 2: by 6 px of 20, by 1.6 px of 4
        "0 0.9 0.01 0.3 0.6", "0 1.2 0.5 0.2 0.2",      # outside x 2: 0.34 of its area is inside, none
    )  # fmt: skip
    label(root, "train", "b", "1 0.5 0.5 0.5 0.5", "0 0.5 0.5 0 0.5")  # no area: the image stays
    (root / "labels/val/a.txt").write_bytes(b"\xff\xfe\x00")
    data = read_yolo(root, tmp_path, "skip")
    assert counts(data) == {
        ("train", problems.REPEATED_BOX): 1,
        ("train", problems.CLASS_RANGE): 4,
        ("train", problems.WRONG_COLUMNS): 3,
        ("train", problems.NOT_A_NUMBER): 3,
        ("train", problems.NEGATIVE_SIZE): 1,
        ("train", problems.NO_AREA): 3,
        ("train", problems.STICKS_OUT): 2,
        ("train", problems.OUTSIDE): 2,
        ("val", problems.UNREADABLE_LABELS): 1,
    }
    assert [(truth.file_name, truth.boxes_px.tolist()) for truth in data.splits["train"].images] == [
        ("b.png", [[10, 5, 30, 15]])  # of a.png objects are not known: it would be taught as background
    ]
    assert [truth.file_name for truth in data.splits["val"].images] == ["b.png"]
    assert {name: summary.left_out for name, summary in data.summaries.items()} == {"train": 1, "val": 1}
    by_kind = {problem.kind: problem for problem in data.problems}
    assert by_kind[problems.CLASS_RANGE].examples[3] == "labels/train/a.txt:6 (class 12, allowed 0..2)"

    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    assert len(caught.value.problems) == 8  # the repeated line is a note
    assert caught.value.problems[0] == (
        f"{root}/data.yaml: train: class id out of range: 4 found, e.g. labels/train/a.txt:3 (class 3, allowed 0..2), "
        "labels/train/a.txt:4 (class -1, allowed 0..2), labels/train/a.txt:5 (class 1.5, allowed 0..2), "
        "labels/train/a.txt:6 (class 12, allowed 0..2); mend the data or set data.on_problem: skip"
    )


def test_at_most_five_examples_are_kept(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "a", *(f"9 0.5 0.5 0.{i}1 0.5" for i in range(8)))
    (problem,) = read_yolo(root, tmp_path, "skip").problems
    assert (problem.count, len(problem.examples)) == (8, 5)
    assert problem.as_json()["kind"] == "class id out of range"


def test_a_repeated_line_is_no_error(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "a", "0 0.5 0.5 0.5 0.5", "0 0.5 0.5 0.5 0.5")
    data = read_yolo(root, tmp_path)
    assert counts(data) == {("train", problems.REPEATED_BOX): 1}
    assert len(data.splits["train"].images[0].class_ids) == 1


def test_a_box_may_stick_out_by_one_pixel(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    # 40 x 20 px: left edge at -0.8 px; lower edge at 20.9 px; wholly in the margin above
    label(root, "train", "a", "0 0.1 0.5 0.24 0.5", "1 0.5 0.795 0.5 0.5", "2 0.5 -0.02 0.5 0.02")
    data = read_yolo(root, tmp_path, "skip")
    np.testing.assert_allclose(
        data.splits["train"].images[0].boxes_px, [[0, 5, 8.8, 15], [10, 10.9, 30, 20]], atol=1e-5
    )
    assert counts(data) == {("train", problems.NO_AREA): 1}


def test_faulty_images_are_counted_and_left_out(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    images = root / "images" / "train"
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.png").write_text("not a picture")
    picture(images / "short.jpg", 300, 300)
    (images / "short.jpg").write_bytes((images / "short.jpg").read_bytes()[:9000])
    picture(images / "cut.png", 300, 300)
    (images / "cut.png").write_bytes((images / "cut.png").read_bytes()[:9000])
    Image.new("RGB", (20, 20)).save(images / "film.png", format="GIF")
    picture(images / "low.png", 50, 9)
    (images / "broken link.jpg").symlink_to(root / "nowhere.jpg")
    data = read_yolo(root, tmp_path, "skip")
    assert counts(data) == {
        ("train", problems.MISSING_IMAGE): 1,
        ("train", problems.UNREADABLE_IMAGE): 5,
        ("train", problems.SMALL_IMAGE): 1,
    }
    assert [(truth.image_id, truth.file_name) for truth in data.splits["train"].images] == [(1, "a.png"), (2, "b.png")]
    again = read_yolo(root, tmp_path, "skip")  # now from the cache
    assert again.problems == data.problems
    with pytest.raises(InputError, match=r"image with a side under 10 px: 1 found, e\.g\. low\.png \(50x9 px\)"):
        read_yolo(root, tmp_path)


def test_a_changed_image_is_read_again(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    before = read_yolo(root, tmp_path)
    assert read_yolo(root, tmp_path).splits["train"].content_hash == before.splits["train"].content_hash
    picture(root / "images/train/a.png", seed=1)
    after = read_yolo(root, tmp_path)
    assert after.splits["train"].content_hash != before.splits["train"].content_hash
    assert after.splits["val"].content_hash == before.splits["val"].content_hash
    label(root, "val", "a", "2 0.5 0.5 0.5 0.5")
    assert read_yolo(root, tmp_path).splits["val"].content_hash != before.splits["val"].content_hash


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [ant, ant]\n", "names: ant given more than once"),
        ("names: {0: ant, 2: bee}\n", r"names: keys must be 0\.\.1, found \[0, 2\]"),
        ("names: {x: ant}\n", r"names: keys must be 0\.\.0"),
        ("names: [ant, bee]\nnc: 3\n", "nc: 3 does not match the 2 names"),
        ("names: []\n", "names: must list the class names"),
        ("names: [ant]\nchannels: many\n", "channels: 'many' is not a whole number of 1 to 64"),
        ("names: [ant]\ntest: {a: b}\n", "test: .* is neither a path nor a list of paths"),
        ("names: [ant]\nkpt_shape: 3\n", r"kpt_shape: 3 is not \[number, dimensions\]"),
        ("names: [ant]\n: [", r"not valid YAML \(line"),
        ("names: [ant]\nnames: [bee]\n", r"not valid YAML \(line 4: key 'names' is given twice\)"),
        ("names: {0: ant, 0: bee}\n", r"not valid YAML \(line 3: key '0' is given twice\)"),
        ("names: [ant, , bee]\n", r"not valid YAML \(line 3"),
        ("names:\n- ant\n-\n", r"names\[1\]: is empty; give the class a name \(in quotes if it is called ~ or null\)"),
        ("names: [ant, null]\n", r"names\[1\]: is empty"),
        ("names: [ant, '  ']\n", r"names\[1\]: is blank; give the class a name"),
        ("names: [ant, [bee]]\n", r"names\[1\]: is no text but a list"),
        ('names: [ant, "b\\udc00"]\n', "half of a surrogate pair"),
        ("names: [ant, bee]\nchannels: 03\n", "line 4: 03 has a leading zero, which YAML reads as octal; write 3"),
    ],
)
def test_a_faulty_data_yaml_is_named(text: str, said: str, tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set", text)
    with pytest.raises(InputError, match=said):
        read_yolo(root, tmp_path)


@pytest.mark.parametrize("names", ["[no, 010, 7, 1e3, 2024-01-01]", "{0: no, 1: 010, 2: 7, 3: 1e3, 4: 2024-01-01}"])
def test_names_are_what_is_written(names: str, tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set", f"names: {names}\n")
    assert read_yolo(root, tmp_path).class_names == ("no", "010", "7", "1e3", "2024-01-01")


def test_all_faults_of_a_data_yaml_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("train: nowhere\nnames: [a, a]\nchannels: 0\n")
    with pytest.raises(InputError) as caught:
        read_yolo(tmp_path, tmp_path)
    assert len(caught.value.problems) == 4  # names, channels, train, val
    with pytest.raises(InputError, match=r"missing\.yaml: cannot be read"):
        read_yolo(tmp_path, tmp_path, name="missing.yaml")


def test_empty_and_unlabelled_sets_are_refused_even_when_skipping(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    for stem in ("a", "b"):
        label(root, "train", stem, "")
    with pytest.raises(InputError, match="train: none of its 2 images has a usable label"):
        read_yolo(root, tmp_path, "skip")
    for stem in ("a", "b"):
        label(root, "train", stem, "0 1.2 0.5 0.9 0.5")
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path, "skip")
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "train: none of its 2 images is left; mend the data",
        "train: box mostly outside its image: 2 found, e.g. labels/train/a.txt:1 (30.0 5.0 66.0 15.0 in 40x20), "
        "labels/train/b.txt:1 (30.0 5.0 66.0 15.0 in 40x20)",
    ]
    for stem in ("a", "b"):
        label(root, "train", stem, "0 0.5 0.5 0 0.5")
    with pytest.raises(InputError, match="train: no box is left on its 2 images; mend the data"):
        read_yolo(root, tmp_path, "skip")
    for stem in ("a", "b"):
        (root / "images/train" / f"{stem}.png").write_text("no picture")
    with pytest.raises(InputError, match=r"train: none of its 2 images is left.*train: unreadable image: 2 found"):
        read_yolo(root, tmp_path, "skip")
    for stem in ("a", "b"):
        (root / "images/train" / f"{stem}.png").unlink()
    with pytest.raises(
        InputError, match=r"train: no images under .*; .*label file without an image: 2 found, e\.g\. a"
    ):
        read_yolo(root, tmp_path, "skip")


def test_boxes_that_stick_out_are_clipped_on_request(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "a", "0 0.9 0.5 0.5 0.5", "1 1.0 0.5 0.5 0.5")  # 0.7 and 0.5 of their areas are inside
    with pytest.raises(
        InputError, match=r"box that sticks out .*: 2 found.*; mend the data or set data.on_problem: clip"
    ):
        read_yolo(root, tmp_path)
    for on_problem in ("clip", "skip"):
        data = read_yolo(root, tmp_path, on_problem)
        assert counts(data) == {("train", problems.STICKS_OUT): 2}
        assert data.problems[0].handled == "clipped to the image"
        np.testing.assert_allclose(data.splits["train"].images[0].boxes_px, [[26, 5, 40, 15], [30, 5, 40, 15]])
    label(root, "train", "b", "0 1.01 0.5 0.5 0.5")
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path, "clip")
    (problem,) = caught.value.problems
    assert "train: box mostly outside its image: 1 found, e.g. labels/train/b.txt:1 (30.4 5.0 50.4 15.0 in" in problem
    assert [truth.file_name for truth in read_yolo(root, tmp_path, "skip").splits["train"].images] == ["a.png"]


def test_labels_in_pixels_are_named(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "a", "1 20 10 20 10", "1 0 0 40 0 40 20 0 20")
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    assert caught.value.problems == (
        f"{root}/data.yaml: train: label in pixels, where YOLO has shares of 1: 2 found, e.g. labels/train/a.txt:1 "
        "(20 10 20 10), labels/train/a.txt:2 (0 0 40 0); divide x and width by the image's width, y and height by its "
        "height or set data.on_problem: skip",
    )


def test_systematic_faults_are_named_by_their_cause(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    (root / "train.txt").write_text("images/gone/a.png\nimages/gone/b.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: images/val\nnames: [ant, bee]\n")
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    assert caught.value.problems == (
        f"{root}/data.yaml: train: missing image: 2 found, e.g. a.png, b.png; mend the data or set "
        "data.on_problem: skip",
    )
    with pytest.raises(InputError, match=r"train: none of its 2 images has a usable label.*missing image: 2 found"):
        read_yolo(root, tmp_path, "skip")


def test_labels_of_another_suffix_are_named_where_none_is_left(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    for path in (root / "labels/train").iterdir():
        path.rename(path.with_suffix(".TXT"))
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    assert [problem.partition(": ")[2] for problem in caught.value.problems] == [
        "train: none of its 2 images has a usable label; check where the labels are",
        "train: file of a suffix that is not read: 2 found, e.g. a.TXT, b.TXT",
    ]


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("images/nowhere", "{root}/images/nowhere does not exist"),
        ("images/empty", "no images under {root}/images/empty; check the path"),
        ("images/bare", "none of its 1 images has a usable label; check where the labels are"),
        ("gone.txt", "none of its 1 images has a usable label; check where the labels are (test: missing image: 1 "
                     "found, e.g. gone.png)"),
    ],
)  # fmt: skip
def test_an_absent_test_split_is_a_warning(test: str, said: str, tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set", f"names: [ant, bee]\ntest: {test}\n")
    (root / "images/empty").mkdir()
    picture(root / "images/bare/a.png", seed=9)
    (root / "gone.txt").write_text("images/gone/gone.png\n")
    data = read_yolo(root, tmp_path)
    assert set(data.splits) == {"train", "val"}
    assert data.problems == ()
    assert data.warnings[-3] == f"test: {said.format(root=root)}; no stage uses test, so it is left out"


def test_a_faulty_test_split_is_an_error(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set", "names: [ant, bee]\ntest: images/test\n")
    picture(root / "images/test/a.png", seed=9)
    label(root, "test", "a", "0 0.5 0.5 0.5")
    with pytest.raises(InputError, match="test: label line with a wrong number of columns: 1 found"):
        read_yolo(root, tmp_path)


def test_key_points_are_ignored_and_old_keys_understood(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    label(root, "train", "a", "1 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 2")
    (root / "data.yaml").write_text("train: ../images/train\nvalidation: images/val\nkpt_shape: [2, 3]\nnc: 3\n")
    data = read_yolo(root, tmp_path)
    assert data.splits["train"].images[0].boxes_px.tolist() == [[10, 5, 30, 15]]
