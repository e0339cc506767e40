"""Image size, batch and epochs by hand; the student of a teacher."""

from __future__ import annotations

import pytest

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.devices import catalog
from edgekd.stages.starting import machine
from edgekd.stages.starting.data import Shape
from edgekd.stages.starting.models import student_for
from edgekd.stages.starting.text import Line, content_of, written


@pytest.mark.parametrize(
    ("long_side_px", "object_px", "gpu", "size"),
    [
        (96, 20.0, True, 96), (100, 20.0, True, 128), (640, 60.0, True, 640), (640, 60.0, False, 320),
        (4000, 100.0, True, 640), (4000, 25.0, True, 1280), (1000, 10.0, True, 800), (4000, None, False, 320),
    ],
)  # fmt: skip
def test_image_size(long_side_px: int, object_px: float | None, gpu: bool, size: int) -> None:
    found, why = machine.image_size(Shape(100, 10, long_side_px, object_px), gpu)
    assert found == size
    assert f"at most {long_side_px} px" in why


@pytest.mark.parametrize(
    ("train", "gpu", "size_px", "batch"),
    [(1000, 24.0, 640, 16), (1000, 4.0, 640, 8), (5, 24.0, 640, 2), (1000, 24.0, 1280, 8)],
)
def test_batch(train: int, gpu: float, size_px: int, batch: int) -> None:
    assert machine.batch_size(Shape(train, 10, 640, None), gpu, size_px)[0] == batch


def test_epochs() -> None:
    assert machine.epoch_count(Shape(800, 10, 96, None), 16, True)[0] == 100
    assert machine.epoch_count(Shape(800, 10, 96, None), 16, False)[0] == 30
    assert machine.epoch_count(Shape(100_000, 10, 96, None), 16, False)[0] == 5
    assert machine.epoch_count(Shape(91, 41, 224, None), 16, False)[0] == 250
    assert machine.epoch_count(Shape(16, 10, 96, None), 16, False)[0] == 300


def test_where_steps_are_few_each_batch_is_an_update() -> None:
    """The engine adds up 64 images: of 600 steps it would make 150 updates, and random weights learn nothing."""
    shape = Shape(91, 41, 224, None)
    on_cpu, on_gpu = ({one.key: one.value for one in machine.train(shape, gpu, 32)} for gpu in (None, 24.0))
    assert on_cpu["nbs"] == on_cpu["batch"]
    assert "nbs" not in on_gpu


def test_targets_are_those_of_the_device() -> None:
    assert [line.value for line in machine.targets(catalog.load("jetson-orin-nano"))] == ["tensorrt-fp16", "onnx-fp32"]
    assert [line.value for line in machine.targets(catalog.load("raspberry-pi-5"))] == ["onnx-fp32"]


@pytest.mark.parametrize(
    ("teacher", "student"),
    [
        ("yolo11s", "yolo11n"), ("yolo26n", "yolo26p"), ("yolo12n", "yolo11n"),
        ("rtmdet-s", "rtmdet-tiny"), ("rtdetr-p", "yolo11n"),
    ],
)  # fmt: skip
def test_the_student_is_of_the_teachers_series(teacher: str, student: str) -> None:
    assert student_for(families.open_detector(None, Asked(teacher, None, ("a",), 3, "teacher"))) == student


def test_reasons_stand_behind_their_lines_or_above_them() -> None:
    lines = [
        Line("name", "a", "short"), Line("gate", {"max_ap_drop": 0.1}, "long " * 30),
        Line("export", (Line("", "onnx-fp32", "why"),)),
    ]  # fmt: skip
    text = written(["head"], lines)
    assert text.splitlines()[:3] == ["# head", "name: a # short", "# " + " ".join(["long"] * 23)]
    assert text.endswith("export:\n  - onnx-fp32 # why\n")
    assert content_of(lines) == {"name": "a", "gate": {"max_ap_drop": 0.1}, "export": ["onnx-fp32"]}
