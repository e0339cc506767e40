"""The letterbox against the engine's own validation loader: equal arrays, equal boxes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from edgekd.data import images, letterbox
from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import InputError
from tests.data.odd_images import ODD, ORIENTATION, make_odd_set


@pytest.fixture(scope="module", autouse=True)
def guarded_engine() -> None:
    guard()


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_odd_set(tmp_path_factory.mktemp("odd")).parent


def engine_items(folder: Path, size: int | tuple[int, int], channels: int) -> list[dict[str, Any]]:
    from ultralytics.data.dataset import YOLODataset

    names = dict(enumerate(map(str, range(10))))
    data = {"names": names, "channels": channels}
    dataset = YOLODataset(img_path=str(folder), imgsz=size, augment=False, rect=False, data=data, task="detect")
    return [dataset[index] for index in range(len(dataset))]


@pytest.mark.parametrize(
    ("size", "channels"), [(64, 3), (160, 3), (96, 1), ((64, 96), 3), ((96, 64), 3), ((320, 192), 1)]
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_pixels_and_boxes_equal_the_engine(odd: Path, size: int | tuple[int, int], channels: int, split: str) -> None:
    import torch
    from ultralytics.utils import ops

    size_px = size if isinstance(size, tuple) else (size, size)
    items = engine_items(odd / "images" / split, size, channels)
    assert len(items) == len(ODD[split])
    rng = np.random.default_rng(0)
    boxes = (rng.random((50, 4)) * max(size_px) * 1.2 - 10).astype(np.float32)
    for item in items:
        image = letterbox.load_image(Path(item["im_file"]), channels)
        assert image.shape[:2] == item["ori_shape"]
        ours, geometry = letterbox.letterbox(image, size_px)
        assert np.array_equal(ours.transpose(2, 0, 1), item["img"].numpy()), item["im_file"]
        theirs = ops.scale_boxes(size_px, torch.from_numpy(boxes.copy()), item["ori_shape"], item["ratio_pad"])
        assert np.array_equal(letterbox.to_original(boxes, geometry, *image.shape[:2]), theirs.numpy())


@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_equals_the_engine(channels: int, tmp_path: Path) -> None:
    """Random and extreme sizes, a single row or column among them, which the engine's scan would refuse."""
    from ultralytics.data.augment import LetterBox
    from ultralytics.data.base import BaseDataset

    rng = np.random.default_rng(5)
    sizes = [(1, 300), (300, 1), (1, 1), (2, 777), *map(tuple, rng.integers(1, 400, (40, 2)).tolist())]
    path = tmp_path / "x.png"
    for number, (height, width) in enumerate(sizes):
        cv2.imwrite(str(path), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        size_px = [(64, 64), (96, 160), (128, 32)][number % 3]
        engine = SimpleNamespace(
            ims=[None], im_files=[str(path)], npy_files=[path.with_suffix(".npy")], imgsz=size_px, channels=channels,
            cv2_flag=cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR, augment=False, cache=None, prefix="",
        )  # fmt: skip
        resized, _, _ = BaseDataset.load_image(engine, 0)
        theirs = LetterBox(new_shape=size_px, scaleup=False)(image=resized)
        ours, _ = letterbox.letterbox(letterbox.load_image(path, channels), size_px)
        assert np.array_equal(ours[..., ::-1], theirs), (height, width, size_px)


def test_geometry_by_hand() -> None:
    """100 x 50 into 64: scale 0.64, 64 x 32, 16 above and below."""
    image = np.full((50, 100, 3), 7, dtype=np.uint8)
    out, geometry = letterbox.letterbox(image, (64, 64))
    assert geometry == letterbox.Geometry(scale_x=0.64, scale_y=0.64, pad_left_px=0, pad_top_px=16)
    assert (out[16:48] == 7).all()
    assert (out[:16] == 114).all()
    assert (out[48:] == 114).all()
    boxes = np.array([[0, 16, 64, 48], [32, 20, 48, 36], [-5, 0, 99, 64]], dtype=np.float32)
    expected = [[0, 0, 100, 50], [50, 6.25, 75, 31.25], [0, 0, 100, 50]]
    np.testing.assert_allclose(letterbox.to_original(boxes, geometry, 50, 100), expected, rtol=1e-6)


def test_there_and_back() -> None:
    rng = np.random.default_rng(1)
    for height, width in ((33, 91), (400, 11), (57, 57)):
        _, geometry = letterbox.letterbox(np.zeros((height, width, 1), np.uint8), (96, 64))
        corner = rng.random((20, 2)) * [width, height]
        boxes = np.hstack([corner, corner + rng.random((20, 2)) * ([width, height] - corner)]).astype(np.float32)
        there = letterbox.to_letterboxed(boxes, geometry)
        np.testing.assert_allclose(letterbox.to_original(there, geometry, height, width), boxes, atol=1e-3)


def test_no_boxes() -> None:
    geometry = letterbox.Geometry(1.0, 1.0, 0, 0)
    assert letterbox.to_original(np.zeros((0, 4), np.float32), geometry, 9, 9).shape == (0, 4)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
def test_size_after_exif_equals_what_is_decoded_and_what_the_engine_says(
    suffix: str, orientation: int, tmp_path: Path
) -> None:
    from ultralytics.data.utils import check_image
    from ultralytics.utils.patches import imread

    path = tmp_path / f"turned{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path, exif=exif)
    facts = images.inspect(path, 3)
    ours = letterbox.load_image(path, 3)
    assert np.array_equal(ours, imread(path, cv2.IMREAD_COLOR)[..., ::-1])
    assert (facts.height_px, facts.width_px) == ours.shape[:2] == check_image(str(path))[1]


def test_bands_beyond_colour_are_kept(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (12, 14, 4), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "four.png"), bands)
    assert np.array_equal(letterbox.load_image(tmp_path / "four.png", 4), bands)
    out, _ = letterbox.letterbox(bands, (16, 16))
    assert out.shape == (16, 16, 4)
    with pytest.raises(InputError, match="has 4 channels, the data set says 5"):
        letterbox.load_image(tmp_path / "four.png", 5)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8 not a picture", b"GIF89a"])
def test_what_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(InputError, match="cannot be decoded as an image"):
        letterbox.load_image(tmp_path / "x.jpg", 3)
    with pytest.raises(InputError, match="cannot be decoded as an image"):
        letterbox.load_image(tmp_path / "missing.jpg", 3)
