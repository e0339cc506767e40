"""What the engine's augmentation shows of which images, held against the pixels themselves."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import EnvironmentFault
from edgekd.training.engines.batch import batch_of
from edgekd.training.engines.views import follow

guard()

from ultralytics.cfg import get_cfg  # noqa: E402
from ultralytics.data.augment import CenterCrop  # noqa: E402
from ultralytics.data.dataset import YOLODataset  # noqa: E402
from ultralytics.models.rtdetr.val import RTDETRDataset  # noqa: E402

SIZE, PADDING = 64, 114
SHAPES = [(64, 64), (40, 64), (64, 30), (20, 50), (90, 60), (64, 48)]
QUIET = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "scale": 0.0}
PLAIN = {**QUIET, "translate": 0.0, "fliplr": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "usual": {**QUIET, "translate": 0.2, "scale": 0.6, "fliplr": 0.5, "flipud": 0.5},
    "turned": {**QUIET, "degrees": 30.0, "shear": 10.0, "perspective": 0.0005},
    "mosaic": {**QUIET, "mosaic": 1.0, "scale": 0.5, "fliplr": 0.5},
    "mixup": {**QUIET, "mixup": 1.0, "scale": 0.7},
    "cutmix": {**QUIET, "cutmix": 1.0, "mosaic": 0.5},
}


def dataset(folder: Path, kind: type = YOLODataset, **setting: Any) -> Any:
    """White images, so that whatever has the colour of padding is padding."""
    for number, (height, width) in enumerate(SHAPES):
        for part in ("images", "labels"):
            (folder / part).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.full((height, width, 3), 255, np.uint8))
        (folder / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    random.seed(0)
    np.random.seed(0)
    built = kind(
        img_path=str(folder / "images"), imgsz=SIZE, data={"names": {0: "a"}, "nc": 1, "channels": 3}, batch_size=2,
        augment=True, hyp=get_cfg(overrides=setting),
    )  # fmt: skip
    built.load_image(0)  # a mosaic draws from what was loaded
    built.load_image(1)
    return built


def batches(data: Any, count: int = 5) -> list[dict[str, Any]]:
    """Of all images, `count` times, as the engine's loader and trainer make them."""
    made = [data.collate_fn([data[index] for index in range(len(SHAPES))]) for _ in range(count)]
    return [{**batch, "img": batch["img"].float() / 255} for batch in made]


@pytest.mark.parametrize("kind", [YOLODataset, RTDETRDataset])
@pytest.mark.parametrize("name", SETTINGS)
def test_content_is_what_is_not_padding(name: str, kind: type, tmp_path: Path) -> None:
    data = dataset(tmp_path, kind, **SETTINGS[name])
    follow(data)
    for batch in batches(data):
        view = batch_of(batch).view
        for image, (x1, y1, x2, y2) in zip(batch["img"], view.content_px.tolist(), strict=True):
            rows, columns = ((image[0] * 255 - PADDING).abs() > 35).numpy().nonzero()  # where mixed, paler
            seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            if name == "cutmix":  # what is pasted may bring padding over content: the box may be too large
                assert x1 <= seen[0] + 1.5 and y1 <= seen[1] + 1.5 and x2 >= seen[2] - 1.5 and y2 >= seen[3] - 1.5
            else:
                np.testing.assert_allclose([x1, y1, x2, y2], seen, atol=1.5)
        assert view.all_labelled and bool(view.labelled.all())


def test_plain_images_by_hand(tmp_path: Path) -> None:
    data = dataset(tmp_path, **PLAIN)
    follow(data, unlabelled=frozenset({1, 4}))
    (batch,) = batches(data, 1)
    view = batch_of(batch).view
    assert view.image_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert not view.mixed.any()
    assert view.labelled.tolist() == [True, False, True, True, False, True]
    assert not view.all_labelled
    assert view.content_px[1].tolist() == [0, 12, 64, 52]  # 40 rows of 64, centred
    assert view.content_px[3].tolist() == [0, 19, 64, 45]  # 20x50 enlarged to 26x64


def test_sizes_that_vary(tmp_path: Path) -> None:
    """The engine resizes whole batches where the recipe says multi_scale."""
    data = dataset(tmp_path, **PLAIN)
    follow(data)
    (batch,) = batches(data, 1)
    batch["img"] = torch.nn.functional.interpolate(batch["img"], scale_factor=2)
    assert batch_of(batch).view.content_px[1].tolist() == [0, 24, 128, 104]


@pytest.mark.parametrize("name", ["mosaic", "mixup"])
def test_mixed_images_name_their_first_part(name: str, tmp_path: Path) -> None:
    data = dataset(tmp_path, **SETTINGS[name])
    follow(data, unlabelled=frozenset({0, 2, 3, 4, 5}))
    for batch in batches(data, 3):
        view = batch_of(batch).view
        assert view.image_ids.tolist() == [0, 1, 2, 3, 4, 5]
        assert view.mixed.all()
        assert not view.labelled[[0, 2, 3, 4, 5]].any(), "one part without labels is enough"


@pytest.mark.parametrize("name", SETTINGS)
def test_samples_are_the_engines_own(name: str, tmp_path: Path) -> None:
    plain = batches(dataset(tmp_path, **SETTINGS[name]))
    data = dataset(tmp_path, **SETTINGS[name])
    follow(data)
    for ours, theirs in zip(batches(data), plain, strict=True):
        assert torch.equal(ours["img"], theirs["img"])
        assert torch.equal(ours["bboxes"], theirs["bboxes"])
        assert set(ours) - set(theirs) == {"edgekd_view"}


def test_the_end_of_the_mosaic(tmp_path: Path) -> None:
    setting = SETTINGS["mosaic"]
    data = dataset(tmp_path, **setting)
    follow(data)
    data.close_mosaic(get_cfg(overrides=setting))
    (batch,) = batches(data, 1)
    assert not batch_of(batch).view.mixed.any()


def test_it_can_be_sent_to_worker_processes(tmp_path: Path) -> None:
    data = dataset(tmp_path, **SETTINGS["usual"])
    follow(data)
    sent = pickle.loads(pickle.dumps(data))
    random.seed(1)
    expected = data[3]
    random.seed(1)
    assert sent[3]["edgekd_view"] == expected["edgekd_view"]


def test_a_transform_that_nobody_knows(tmp_path: Path) -> None:
    data = dataset(tmp_path, **PLAIN)
    data.transforms.insert(0, CenterCrop(32))
    with pytest.raises(
        EnvironmentFault, match="its augmentation has a transform CenterCrop, which edgekd does not know"
    ):
        follow(data)


def test_a_batch_of_which_nothing_is_known() -> None:
    none = torch.zeros(0)
    view = batch_of(
        {"img": torch.zeros(2, 3, 32, 64), "bboxes": torch.zeros(0, 4), "batch_idx": none, "cls": none}
    ).view
    assert view.image_ids.tolist() == [-1, -1]
    assert view.content_px.tolist() == [[0, 0, 64, 32]] * 2
    assert view.labelled.all() and view.all_labelled and not view.mixed.any()
