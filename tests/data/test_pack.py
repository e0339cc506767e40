from __future__ import annotations

import errno
import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest

from edgekd.data import letterbox, pack
from edgekd.data.config import DataSet, YoloData, load
from edgekd.errors import EnvironmentFault, InputError
from tests.data.odd_images import make_odd_set


@pytest.fixture
def odd(tmp_path: Path) -> DataSet:
    path = make_odd_set(tmp_path / "set")
    return load(YoloData(format="yolo", path=str(path)), tmp_path / "run", tmp_path)


def test_a_pack_holds_the_letterboxed_images_in_order(odd: DataSet, tmp_path: Path) -> None:
    split = odd.splits["val"]
    made = pack.build(split, (48, 64), 3, tmp_path / "packs")
    array = made.arrays()
    assert array.shape == (10, 48, 64, 3)
    assert array.dtype == np.uint8
    for index, truth in enumerate(split.images):
        pixels, geometry = letterbox.letterbox(
            letterbox.load_image(Path(split.image_dir) / truth.file_name, 3), (48, 64)
        )
        assert np.array_equal(array[index], pixels)
        assert made.images[index] == pack.PackedImage(truth.image_id, truth.height_px, truth.width_px, geometry)
    assert made.sha256 == hashlib.sha256(made.npy_path.read_bytes()).hexdigest()
    assert made.npy_path.name.startswith("val-")
    assert len(made.npy_path.stem) == len("val-") + 12


def test_the_json_says_what_the_device_side_needs(odd: DataSet, tmp_path: Path) -> None:
    made = pack.build(odd.splits["val"], (64, 64), 1, tmp_path)
    record = json.loads(made.npy_path.with_suffix(".json").read_text())
    assert record["schema"] == "edgekd.pack/1"
    assert record["size_px"] == [64, 64]
    assert made.arrays().shape[-1] == record["channels"] == 1
    thin = record["images"][6]  # 10 x 300 px -> 3 x 64 px, 30 above
    assert thin == {
        "image_id": 7, "height_px": 10, "width_px": 300,
        "scale_x": 64 / 300, "scale_y": 3 / 10, "pad_left_px": 0, "pad_top_px": 30,
    }  # fmt: skip
    assert pack.read(made.npy_path.with_suffix(".json")) == made


def test_labels_survive_the_way_there_and_back(odd: DataSet, tmp_path: Path) -> None:
    split = odd.splits["val"]
    made = pack.build(split, (64, 64), 3, tmp_path)
    for index, truth in enumerate(split.images):
        there = letterbox.to_letterboxed(truth.boxes_px, made.images[index].geometry)
        np.testing.assert_allclose(made.restore(index, there), truth.boxes_px, atol=1e-2)


def test_a_pack_is_made_once_and_never_stale(odd: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = odd.splits["val"]
    made = pack.build(split, (32, 32), 3, tmp_path / "packs")
    stamp = made.npy_path.stat().st_mtime_ns
    assert pack.build(split, (32, 32), 3, tmp_path / "packs") == made
    assert made.npy_path.stat().st_mtime_ns == stamp
    others = {pack.build(split, (32, 64), 3, tmp_path / "packs").npy_path}
    others.add(pack.build(split, (32, 32), 1, tmp_path / "packs").npy_path)
    monkeypatch.setattr(letterbox, "VERSION", 999)
    others.add(pack.build(split, (32, 32), 3, tmp_path / "packs").npy_path)
    assert made.npy_path not in others
    assert len(others) == 3


def test_a_cut_off_pack_is_made_again(odd: DataSet, tmp_path: Path) -> None:
    made = pack.build(odd.splits["val"], (32, 32), 3, tmp_path)
    whole = made.npy_path.read_bytes()
    made.npy_path.write_bytes(whole[:-1])
    assert pack.build(odd.splits["val"], (32, 32), 3, tmp_path).npy_path.read_bytes() == whole


def test_an_image_that_vanished_leaves_no_pack(odd: DataSet, tmp_path: Path) -> None:
    split = odd.splits["val"]
    (Path(split.image_dir) / "web.webp").unlink()
    with pytest.raises(InputError, match=r"web\.webp: cannot be decoded"):
        pack.build(split, (32, 32), 3, tmp_path / "packs")
    assert list((tmp_path / "packs").iterdir()) == []


def test_a_full_disk_is_a_fault_of_the_environment(
    odd: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "no space")

    real = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", *rest: Full() if mode == "wb" else real(path, mode, *rest))
    with pytest.raises(EnvironmentFault, match=r"val-.*\.npy: cannot write \(No space left on device\)"):
        pack.build(odd.splits["val"], (32, 32), 3, tmp_path / "packs")
