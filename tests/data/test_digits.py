from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekd import atomic
from edgekd.data import digits
from edgekd.data import digits_art as art
from edgekd.errors import EnvironmentFault, InputError

SMALL = {"imgsz": 64, "train": 6, "val": 3, "test": 2, "seed": 3}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digits.generate(tmp_path_factory.mktemp("digits") / "set", **SMALL).parent


def own_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(small: Path, tmp_path: Path) -> None:
    again = digits.generate(tmp_path / "again", **SMALL).parent
    other = digits.generate(tmp_path / "other", **{**SMALL, "seed": 4}).parent
    assert own_bytes(again) == own_bytes(small)
    assert own_bytes(other)["images/train/000001.png"] != own_bytes(small)["images/train/000001.png"]


def test_a_larger_set_begins_with_the_smaller_one(small: Path, tmp_path: Path) -> None:
    larger = digits.generate(tmp_path / "larger", **{**SMALL, "train": 9}).parent
    for part in ("images/train/000006.png", "labels/train/000006.txt", "images/val/000003.png"):
        assert (larger / part).read_bytes() == (small / part).read_bytes()
    assert len(list((larger / "images/train").iterdir())) == 9


def test_splits_share_neither_digits_nor_photographs() -> None:
    sources = list(digits.SOURCES.values())
    samples = [number for source in sources for number in source.samples]
    assert sorted(samples) == list(range(1797))
    photographs = [name for source in sources for name in source.photographs]
    assert len(set(photographs)) == len(photographs) == 15
    stereo = [split for split, source in digits.SOURCES.items() for name in source.photographs if "motorcycle" in name]
    assert stereo == ["train", "train"]


def test_no_digit_bitmap_of_one_split_occurs_in_another() -> None:
    seen = [{mask.tobytes() for mask in digits.material(split).masks} for split in digits.SOURCES]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_boxes_are_tight_around_what_was_pasted() -> None:
    """One digit a time: the box is where the image differs from the same image without the digit."""
    pixels = digits.material("val")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bare = art.background(pixels.photographs[seed % 2], 96, rng)
        scene = art.paste_digits(bare, pixels.masks, pixels.classes, rng, most=1)
        differs = (scene.image != bare).any(axis=2)
        (x1, y1, x2, y2), seen = scene.boxes_px[0], art.ink_box(differs.astype(np.uint8))
        # A faint rim may round to the colour beneath, so one pixel of slack inwards, none outwards.
        assert x1 <= seen[0] <= x1 + 1
        assert y1 <= seen[1] <= y1 + 1
        assert x2 - 1 <= seen[2] <= x2
        assert y2 - 1 <= seen[3] <= y2


def test_both_layouts_say_the_same(small: Path) -> None:
    for split, count in (("train", 6), ("val", 3), ("test", 2)):
        coco = json.loads((small / "annotations" / f"{split}.json").read_text())
        assert [image["file_name"] for image in coco["images"]] == [f"{i + 1:06d}.png" for i in range(count)]
        for image in coco["images"]:
            lines = (small / "labels" / split / image["file_name"]).with_suffix(".txt").read_text().splitlines()
            rows = np.array([line.split() for line in lines], dtype=float)
            boxes = rows[:, 1:] * 64
            corner = np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]])
            own = [item for item in coco["annotations"] if item["image_id"] == image["id"]]
            assert rows[:, 0].tolist() == [item["category_id"] for item in own]
            np.testing.assert_allclose(corner, [item["bbox"] for item in own], atol=1e-5)
            assert all(item["area"] == item["bbox"][2] * item["bbox"][3] and item["iscrowd"] == 0 for item in own)


def test_scenes_keep_their_promises() -> None:
    pixels = digits.material("train")
    sides, counts = [], []
    for index in range(200):
        scene = digits.draw("train", index, imgsz=96, seed=0, pixels=pixels)
        counts.append(len(scene.boxes_px))
        boxes = np.array(scene.boxes_px)
        assert boxes.min() >= 0
        assert boxes.max() <= 96
        sides.extend((boxes[:, 2:] - boxes[:, :2]).max(axis=1))
        for first, box in enumerate(scene.boxes_px):
            assert all(art._cover(box, other) <= art.MAX_COVER for other in scene.boxes_px[first + 1 :])
    assert min(counts) == 1
    assert max(counts) == art.MAX_DIGITS
    low, high = (share * 96 for share in art.SIZE_RANGE)
    # A digit fills most of its square, and turned by 25 degrees reaches at most cos + sin = 1.33 of its side.
    assert 0.6 * low <= min(sides) <= 1.2 * low
    assert 0.9 * high <= max(sides) <= 1.33 * high
    assert np.median(sides) == pytest.approx(np.sqrt(low * high), rel=0.2)  # log-uniform


def test_which_photograph_is_behind_an_image() -> None:
    """The one named is black, all others are white: black is most of the picture."""
    pixels, names = digits.material("train"), digits.SOURCES["train"].photographs
    for index in range(20):
        named = digits.photograph_of("train", index, seed=3)
        shown = tuple(
            np.full_like(one, 255 * (name != named)) for name, one in zip(names, pixels.photographs, strict=True)
        )
        scene = digits.draw("train", index, imgsz=96, seed=3, pixels=replace(pixels, photographs=shown))
        values, counts = np.unique(scene.image, return_counts=True)
        assert values[counts.argmax()] == 0


def test_cover_by_hand() -> None:
    assert art._cover((0, 0, 4, 4), (2, 2, 10, 10)) == 4 / 16
    assert art._cover((0, 0, 4, 4), (4, 0, 8, 4)) == 0.0


def test_blend_by_hand() -> None:
    patch = np.full((1, 3, 3), 100, dtype=np.uint8)
    art.blend(patch, np.array([[0, 51, 255]], dtype=np.uint8), np.array([200, 0, 100]), 0.5)
    assert patch.tolist() == [[[100, 100, 100], [110, 90, 100], [150, 50, 100]]]


def test_pngs_are_what_was_drawn(small: Path) -> None:
    scene = digits.draw("val", 1, imgsz=64, seed=3, pixels=digits.material("val"))
    stored = cv2.imread(str(small / "images/val/000002.png"))[..., ::-1]
    assert np.array_equal(stored, scene.image)


def test_a_finished_set_is_verified_and_used_again(small: Path) -> None:
    before = (small / "images/train/000001.png").stat().st_mtime_ns
    (small / "labels" / "train.cache").write_text("another program's cache")
    assert digits.generate(small, **SMALL) == small / "data.yaml"
    assert (small / "images/train/000001.png").stat().st_mtime_ns == before
    with pytest.raises(
        InputError, match=r"holds digits made with .*'seed': 3.*asked for .*seed 9; remove it or choose"
    ):
        digits.generate(small, **{**SMALL, "seed": 9})


def test_an_altered_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    out = digits.generate(tmp_path / "set", imgsz=32, train=1, val=1, test=1, seed=0).parent
    label = out / "labels/train/000001.txt"
    label.write_text("0 0.5 0.5 1 1\n")
    with pytest.raises(InputError, match="altered since they were made"):
        digits.generate(out, imgsz=32, train=1, val=1, test=1, seed=0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="exists and is not a digits data set"):
        digits.generate(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def test_an_interrupted_generation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digits.generate(tmp_path / "set", imgsz=32, train=1, val=1, test=1)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    assert digits.generate(tmp_path / "set", imgsz=32, train=1, val=1, test=1).is_file()


def test_all_wrong_arguments_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        digits.generate(tmp_path / "set", imgsz=16, train=0, seed=-1)
    assert [problem.split(":")[1].strip() for problem in caught.value.problems] == ["imgsz", "train", "seed"]


def test_a_missing_photograph_names_the_wheel() -> None:
    with pytest.raises(EnvironmentFault, match="reinstall it: pip install scikit-image"):
        digits._photograph("skimage/data/no_such_picture.png")
