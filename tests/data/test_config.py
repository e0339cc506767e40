from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edgekd.data.config import CocoData, DataConfig, DigitsData, YoloData, load

ADAPTER: TypeAdapter[DigitsData | YoloData | CocoData] = TypeAdapter(DataConfig)


def test_digits_are_made_in_the_run_and_read_back(tmp_path: Path) -> None:
    config = DigitsData(format="digits", imgsz=48, train=5, val=3, test=2, seed=1)
    data = load(config, tmp_path / "run" / "data", tmp_path)
    assert {name: len(split.images) for name, split in data.splits.items()} == {"train": 5, "val": 3, "test": 2}
    assert data.class_names[0] == "zero"
    for truth in data.splits["train"].images:  # whole pixels, through eight digits of text
        np.testing.assert_allclose(truth.boxes_px, truth.boxes_px.round(), atol=1e-5)
    record = data.as_json()
    assert record["schema"] == "edgekd.data/2"
    val = record["splits"]["val"]
    assert (val["images"], val["left_out"], val["content_hash"]) == (3, 0, data.splits["val"].content_hash)
    assert record["problems"] == []
    assert load(config, tmp_path / "run" / "data", tmp_path).as_json() == record


def test_the_format_selects_the_section() -> None:
    assert isinstance(ADAPTER.validate_python({"format": "digits"}), DigitsData)
    assert isinstance(ADAPTER.validate_python({"format": "yolo", "path": "data.yaml"}), YoloData)
    part = {"images": "i", "annotations": "a.json"}
    assert isinstance(ADAPTER.validate_python({"format": "coco", "train": part, "val": part}), CocoData)
    assert DigitsData(format="digits").model_dump() == {
        "format": "digits", "imgsz": 96, "train": 800, "val": 200, "test": 200, "seed": 0,
        "unlabelled": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "section",
    [
        {"format": "voc"},
        {"format": "digits", "imgsz": 16},
        {"format": "digits", "size": 96},
        {"format": "yolo"},
        {"format": "yolo", "path": "x", "on_problem": "ignore"},
        {"format": "coco", "train": {"images": "i"}, "val": {"images": "i", "annotations": "a"}},
    ],
)
def test_what_is_not_allowed_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(section)
