from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.detectors.rtmdet.checkpoint import FILES, publish, save
from edgekd.detectors.rtmdet.family import RTMDetFamily, fitted, flat_cosine
from edgekd.errors import InputError
from tests.detectors.rtmdet.networks import CLASSES, network

WEIGHTS = Path(__file__).parents[3] / "recipes/weights/digits-yolo11n.safetensors"


def asked(model: str | None, weights: Path | None = None, channels: int = 3) -> Asked:
    return Asked(model, weights, CLASSES, channels, "student")


def test_by_name() -> None:
    assert families.meant("rtmdet-tiny", None) == "rtmdet"
    detector = families.open_detector(None, asked("rtmdet-p", channels=1))
    assert (detector.spec.family, detector.spec.name, detector.spec.input_channels) == ("rtmdet", "rtmdet-p", 1)
    assert not detector.module.training


def test_by_what_a_file_holds(tmp_path: Path) -> None:
    save(network(), "rtmdet-p", tmp_path, {})
    publish(network(), "rtmdet-p", tmp_path, {})
    for name in FILES:
        assert families.meant(None, tmp_path / name) == "rtmdet"
    torch.save({"state_dict": {"bbox_head.head_module.rtm_cls.0.weight": torch.zeros(1)}}, tmp_path / "mmyolo.pth")
    torch.save({"state_dict": {"bbox_head.gfl_cls.weight": torch.zeros(1)}}, tmp_path / "gfl.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "other.json").write_text('["rtmdet"]')
    assert families.meant(None, tmp_path / "mmyolo.pth") == "rtmdet"
    assert families.meant(None, WEIGHTS) == "ultralytics"
    for other in (tmp_path / "gfl.pth", tmp_path / "list.pth", tmp_path / "other.json", WEIGHTS):
        assert not RTMDetFamily().accepts(None, other)


def test_a_file_that_cannot_be_read_is_opened_to_say_why(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pth"
    publish(network(), "rtmdet-p", tmp_path, {})
    cut.write_bytes((tmp_path / FILES[2]).read_bytes()[:-2000])
    with pytest.raises(
        InputError, match=r"student\.weights: .*cut\.pth is truncated, damaged or no file of torch\.save"
    ):
        families.open_detector(None, asked(None, cut))
    with pytest.raises(InputError, match=r"student\.weights: .*none\.pth cannot be read \(No such file or directory\)"):
        families.open_detector(None, asked(None, tmp_path / "none.pth"))


def test_weights_of_another_size_differ_from_the_model(tmp_path: Path) -> None:
    save(network(), "rtmdet-p", tmp_path, {})
    found = RTMDetFamily().open(asked("rtmdet-tiny", tmp_path / FILES[0]))
    assert RTMDetFamily().differing("rtmdet-tiny", found, "student.model") == ["rtmdet-p and rtmdet-tiny"]
    with pytest.raises(InputError, match=r"student\.model: unknown model 'rtmdet-n'"):
        RTMDetFamily().differing("rtmdet-n", found, "student.model")


def test_nothing_given() -> None:
    with pytest.raises(
        InputError, match=r"student: give 'model' \(a name such as rtmdet-tiny\) or 'weights' \(a file\)"
    ):
        RTMDetFamily().open(asked(None))


def test_the_rate_is_flat_and_then_a_half_cosine() -> None:
    found = [flat_cosine(epoch, 300, 0.05) for epoch in (0, 149, 150, 225, 300)]
    assert found == pytest.approx([1, 1, 1, (1 + 0.05) / 2, 0.05])
    assert [flat_cosine(epoch, 1, 0.05) for epoch in (0, 1)] == pytest.approx([1, 0.05])


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({}, {"nbs": 16, "close_mosaic": 6}),
        ({"epochs": 300, "batch": 256}, {"nbs": 256, "close_mosaic": 20}),
        ({"epochs": 600, "batch": 128}, {"nbs": 128, "close_mosaic": 20}),
        ({"epochs": 16, "batch": 8}, {"nbs": 8, "close_mosaic": 1}),
        ({"epochs": 1}, {"nbs": 16, "close_mosaic": 1}),
        ({"epochs": "many", "batch": None}, {}),
    ],
)
def test_each_batch_is_a_step_and_mosaic_ends(train: dict[str, object], expected: dict[str, int]) -> None:
    assert fitted(train) == expected
