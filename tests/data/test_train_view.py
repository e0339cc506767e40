from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from edgekd.data import letterbox, train_view
from edgekd.data.config import CocoData, DataSet, YoloData, load
from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import InputError
from tests.data.odd_images import ODD, make_odd_set


@pytest.fixture(scope="module", autouse=True)
def guarded_engine() -> None:
    guard()


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    return make_odd_set(tmp_path / "user's set").parent


def coco(odd: Path, run: Path) -> DataSet:
    parts = {s: {"images": f"images/{s}", "annotations": f"annotations/{s}.json"} for s in ("train", "val")}
    return load(CocoData.model_validate({"format": "coco", **parts}), run, odd)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def engine_dataset(data_yaml: Path, split: str) -> Any:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(data_yaml), autodownload=False)
    return YOLODataset(img_path=data[split], imgsz=64, augment=False, rect=False, data=data, task="detect")


def test_the_engine_sees_every_image_and_label_and_writes_nothing_beside_the_users(odd: Path, tmp_path: Path) -> None:
    before = everything(odd)
    run = tmp_path / 'a run\'s "folder" größe' / "data"
    data = coco(odd, run)
    path = train_view.write(data, run / "train_view")
    for split in ("train", "val"):
        dataset = engine_dataset(path, split)
        truths = data.splits[split].images
        assert len(dataset) == len(truths) == 10
        for index, truth in enumerate(truths):
            engine = dataset.labels[index]
            assert Path(engine["im_file"]).name == train_view.view_name(index + 1, 10, truth.file_name)
            assert engine["shape"] == (truth.height_px, truth.width_px)
            plain = ~truth.is_crowd
            order = np.lexsort(engine["cls"].T)
            assert sorted(engine["cls"][:, 0].tolist()) == sorted(truth.class_ids[plain].tolist())
            boxes = engine["bboxes"][order] * [truth.width_px, truth.height_px, truth.width_px, truth.height_px]
            ours = truth.boxes_px[plain][np.lexsort(truth.class_ids[plain][None])]
            np.testing.assert_allclose(boxes[:, 2:], ours[:, 2:] - ours[:, :2], atol=1e-3)
            np.testing.assert_allclose(boxes[:, :2], (ours[:, 2:] + ours[:, :2]) / 2, atol=1e-3)
            source = letterbox.load_image(Path(data.splits[split].image_dir) / truth.file_name, 3)
            ours_px, _ = letterbox.letterbox(source, (64, 64))
            assert np.array_equal(dataset[index]["img"].numpy(), ours_px.transpose(2, 0, 1)), truth.file_name
    assert everything(odd) == before
    assert {path.name for path in (run / "train_view" / "labels").glob("*.cache")} == {"train.cache", "val.cache"}


def test_a_jpeg_that_the_engine_would_rewrite_is_a_copy(odd: Path, tmp_path: Path) -> None:
    data = coco(odd, tmp_path / "run")
    view = train_view.write(data, tmp_path / "run" / "view").parent
    files = sorted((view / "images").rglob("*.*"))
    assert [path.name for path in files if not path.is_symlink()] == ["000007_open.jpg"]
    original = (odd / "images/train/open.jpg").read_bytes()
    assert (view / "images/train/000007_open.jpg").read_bytes() == original + b"\xff\xd9"


def test_images_are_copied_where_links_are_impossible(
    odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "operation not permitted")

    data = coco(odd, tmp_path / "run")
    monkeypatch.setattr(Path, "symlink_to", refused)
    view = train_view.write(data, tmp_path / "run" / "view").parent
    assert (view / "images/val/000002_huge.jpg").read_bytes() == (odd / "images/val/huge.jpg").read_bytes()


def test_a_view_is_kept_while_it_is_true_and_replaced_when_not(odd: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = YoloData(format="yolo", path="data.yaml")
    path = train_view.write(load(config, run, odd), run / "view")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert content["path"] == str(run / "view")
    assert content["nc"] == 10
    assert content["names"][9] == "nine"
    (run / "view" / "labels" / "train.cache").write_text("the engine's")
    train_view.write(load(config, run, odd), run / "view")
    assert (run / "view" / "labels" / "train.cache").exists()
    (odd / "labels/train/grey.txt").write_text("3 0.5 0.5 0.25 0.5\n")
    train_view.write(load(config, run, odd), run / "view")
    assert not (run / "view" / "labels" / "train.cache").exists()
    expected = "3 0.500000000 0.500000000 0.250000000 0.500000000\n"
    assert (run / "view" / "labels/train/000006_grey.txt").read_text() == expected
    assert sorted(path.name for path in run.iterdir()) == ["image_facts.json", "view"]


def test_a_folder_that_is_no_view_is_refused(odd: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="is not a view made by edgekd"):
        train_view.write(coco(odd, tmp_path / "run"), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_names_in_the_view() -> None:
    assert train_view.view_name(12, 99, "deep/er/größe 'x'.JPG") == "000012_größe 'x'.JPG"
    assert train_view.view_name(1, 12345678, "a.b.png") == "00000001_a.b.png"
    assert train_view.view_name(1, 1, "new\nline.png") == "000001_new_line.png"
    assert len(train_view.view_name(1, 1, "x" * 250 + ".png")) < 80
    assert {odd.name for split in ODD.values() for odd in split if "/" in odd.name}  # the set has a subfolder
