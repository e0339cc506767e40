"""Images as people really have them, in both layouts, and other numbers of channels."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgekd.data import images, problems
from edgekd.data.config import CocoData, load
from edgekd.errors import InputError
from tests.data.odd_images import COCO_IDS, ODD, make_odd_set, unreadable_files
from tests.data.small_sets import counts, read_yolo, snapshot, yolo_set


def test_the_odd_set_reads_alike_in_both_layouts(tmp_path: Path) -> None:
    root = make_odd_set(tmp_path / "set").parent
    again = make_odd_set(tmp_path / "again").parent
    assert snapshot(root) == snapshot(again)
    yolo = read_yolo(root, tmp_path)
    parts = {s: {"images": f"images/{s}", "annotations": f"annotations/{s}.json"} for s in ("train", "val")}
    coco = load(CocoData.model_validate({"format": "coco", **parts}), tmp_path / "run", root)
    assert yolo.problems == coco.problems == ()
    assert len(COCO_IDS) == len(yolo.class_names) == 10
    for split, odd_ones in ODD.items():
        by_name = {odd.name: odd for odd in odd_ones}
        ours = {truth.file_name: truth for truth in coco.splits[split].images}
        assert len(yolo.splits[split].images) == len(ours) == 10
        assert sum(int(truth.is_crowd.sum()) for truth in ours.values()) == 4
        for truth in yolo.splits[split].images:
            odd, twin = by_name[truth.file_name], ours[truth.file_name]
            assert (truth.height_px, truth.width_px) == (odd.height_px, odd.width_px) == (twin.height_px, twin.width_px)
            plain = ~twin.is_crowd
            np.testing.assert_allclose(truth.boxes_px, twin.boxes_px[plain], atol=1e-3)
            assert truth.class_ids.tolist() == twin.class_ids[plain].tolist()
            assert len(truth.class_ids) == (2 if odd.labelled else 0)


def test_one_channel_is_read_from_the_data_yaml(tmp_path: Path) -> None:
    root = make_odd_set(tmp_path / "set").parent
    (root / "data.yaml").write_text((root / "data.yaml").read_text() + "channels: 1\n")
    data = read_yolo(root, tmp_path)
    assert data.channels == 1
    assert len(data.splits["val"].images) == 10


def test_other_numbers_of_channels_are_checked(tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set", "names: [ant, bee, cat]\nchannels: 4\n")
    Image.new("RGBA", (40, 20)).save(root / "images/train/b.png")
    Image.new("RGBA", (40, 20)).save(root / "images/val/b.png")
    data = read_yolo(root, tmp_path, "skip")
    assert counts(data) == {
        ("train", problems.WRONG_CHANNELS): 1,
        ("val", problems.WRONG_CHANNELS): 1,
        ("val", problems.SHARED_IMAGE): 1,
    }
    assert data.problems[0].examples == ("a.png (3 channels, not 4)",)


def test_images_that_cannot_be_read_are_told_with_cause_and_remedy(tmp_path: Path) -> None:
    said = unreadable_files(tmp_path)
    paths = [tmp_path / name for name in said]
    facts = images.inspect_all(paths, 3, tmp_path / "facts.json", title="images")
    if importlib.util.find_spec("pi_heif"):
        said["photo.heic"] = "HEIC that cannot be decoded; convert it to JPEG"
    assert {path.name: fact.detail for path, fact in zip(paths, facts, strict=True)} == said
    assert {fact.fault for fact in facts} == {problems.UNREADABLE_IMAGE}


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colours", [1, 3])
def test_twelve_bits_in_sixteen_are_nearly_black(colours: int, suffix: str, tmp_path: Path) -> None:
    root = yolo_set(tmp_path / "set")
    for stem in ("a", "b"):
        pixels = np.random.default_rng(0).integers(0, 4096, (20, 40, colours), dtype=np.uint16)
        (root / f"images/train/{stem}.png").unlink()
        cv2.imwrite(str(root / f"images/train/{stem}.{suffix}"), pixels)
    with pytest.raises(InputError) as caught:
        read_yolo(root, tmp_path)
    assert caught.value.problems == (
        f"{root}/data.yaml: train: 16-bit image that uses its lowest bits alone: 2 found, e.g. a.{suffix} (uses 12 of "
        f"16 bits), b.{suffix} (uses 12 of 16 bits); rescale the values to 8 bits (of 16 bits the high byte is kept, "
        "so they are nearly black) or set data.on_problem: skip",
    )
    cv2.imwrite(str(root / f"images/train/b.{suffix}"), pixels * 16)  # a is then a dark image among others
    assert len(read_yolo(root, tmp_path).splits["train"].images) == 2


def test_large_images_are_read_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (12_000, 9_000)).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (facts,) = images.inspect_all([path], 3, tmp_path / "facts.json", title="images")
    assert (facts.height_px, facts.width_px, facts.fault) == (9000, 12000, "")
