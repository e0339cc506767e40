"""Tiles of aerial photographs: by hand on a picture of our own, and on the wheel where it lies ready."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import trees
from edgekd.data.config import YoloData, load
from edgekd.errors import InputError

WHEELS = [Path(folder) / trees.WHEEL for folder in (os.environ.get("EDGEKD_WHEELS", "."), ".")]
WHEEL = next((path for path in WHEELS if path.is_file()), None)
PX = trees.TILE_PX


def test_the_right_columns_are_val_and_what_is_left_over_is_left_out() -> None:
    image = np.zeros((2 * PX + 50, 5 * PX + 10, 3), np.uint8)
    image[PX:, 4 * PX :] = 7
    found = list(trees.tiles("a", image, np.zeros((0, 4), np.float32)))
    assert [tile.name for tile in found] == [f"a-{row:02d}-{column:02d}" for row in range(2) for column in range(5)]
    assert [tile.split for tile in found[:5]] == ["train", "train", "train", "val", "val"]
    assert all(tile.image.shape == (PX, PX, 3) for tile in found)
    assert found[9].image.min() == 7
    assert found[8].image.max() == 0


def test_a_crown_belongs_to_the_tiles_that_show_enough_of_it() -> None:
    image = np.zeros((PX, 2 * PX, 3), np.uint8)
    boxes = np.array([[PX - 50, 10, PX + 50, 60], [PX - 30, 10, PX + 70, 60], [5, 5, 25, 45]], np.float32)
    left, right = trees.tiles("a", image, boxes)
    assert left.boxes_px.tolist() == [[PX - 50, 10, PX, 60], [5, 5, 25, 45]]
    assert right.boxes_px.tolist() == [[0, 10, 50, 60], [0, 10, 70, 60]]
    assert trees._yolo(np.array([0, 0, PX, PX / 2], np.float32)) == "0 0.500000 0.250000 1.000000 0.500000"


@pytest.mark.parametrize("kind", ["missing", "no wheel", "empty", "other"])
def test_another_file_is_refused_with_the_remedy(tmp_path: Path, kind: str) -> None:
    wheel = tmp_path / "a.whl"
    if kind == "no wheel":
        wheel.write_bytes(b"PK")
    if kind in ("empty", "other"):
        with zipfile.ZipFile(wheel, "w") as archive:
            if kind == "other":
                archive.writestr("deepforest/data/2019_YELL_2_528000_4978000_image_crop2.png", b"another")
    with pytest.raises(InputError, match=r"pip download --no-deps deepforest==2\.1\.0"):
        trees.generate(tmp_path / "trees", wheel)
    assert not (tmp_path / "trees").exists()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is there already"):
        trees.generate(tmp_path, tmp_path / "a.whl")


@pytest.mark.skipif(WHEEL is None, reason=f"{trees.WHEEL} is not in the current folder or EDGEKD_WHEELS")
def test_the_set_is_sound_and_its_licence_travels(tmp_path: Path) -> None:
    assert WHEEL is not None
    path = trees.generate(tmp_path / "trees", WHEEL)
    data = load(YoloData(format="yolo", path=str(path)), tmp_path / "data", tmp_path)
    summaries = data.summaries
    assert (summaries["train"].images, summaries["val"].images) == (91, 41)
    assert "MIT License" in (tmp_path / "trees" / "LICENSE").read_text()
    assert data.class_names == ("tree",)
