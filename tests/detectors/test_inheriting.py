"""Weights of a teacher in a student: which, how many, and when none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgekd.detectors.contract import Asked
from edgekd.detectors.inheriting import inherited, share
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.errors import InputError

NAMES = ("a", "b", "c")


def detector(model: str, names: tuple[str, ...] = NAMES) -> UltralyticsDetector:
    return UltralyticsDetector.opened(Asked(model, None, names, 3, model))


def test_a_twin_takes_everything_of_a_section() -> None:
    student, teacher = detector("yolo11p"), detector("yolo11p")
    taken = inherited(student, teacher, ("neck", "head"), "here")
    state = student.module.state_dict()
    start = len(student.module.yaml["backbone"])
    expected = {name for name in state if int(name.split(".")[1]) >= start}
    assert set(taken) == expected
    assert all(torch.equal(value, teacher.module.state_dict()[name]) for name, value in taken.items())
    weights = sum(p.numel() for n, p in student.module.named_parameters() if int(n.split(".")[1]) >= start)
    assert share(taken, student) == pytest.approx(weights / student.spec.parameters)


def test_of_another_width_only_equal_shapes_with_their_norms() -> None:
    """The box towers of yolo11p and yolo11n have 64 channels behind their first layer; their first layers differ."""
    student, teacher = detector("yolo11p"), detector("yolo11n")
    taken = inherited(student, teacher, ("head",), "here")
    assert "model.23.cv2.0.1.conv.weight" in taken and "model.23.cv2.0.1.bn.running_mean" in taken
    assert "model.23.cv2.0.0.conv.weight" not in taken and "model.23.cv2.0.0.bn.weight" not in taken
    assert 0 < share(taken, student) < 0.5


def test_what_there_is_nothing_to_take_from_is_refused() -> None:
    student = detector("yolo11p")
    with pytest.raises(InputError, match="here: no layer of neck of yolo11n has the shape of yolo11p's; leave it out"):
        inherited(student, detector("yolo11n"), ("neck",), "here")
    with pytest.raises(InputError, match="the head predicts the teacher's classes, which are not those of the data"):
        inherited(student, detector("yolo11p", ("a", "b")), ("head",), "here")
    other = detector("yolo11p")
    other.spec = replace(other.spec, family="other")
    with pytest.raises(InputError, match="of the family ultralytics, yolo11p of other; only a teacher of the same"):
        inherited(student, other, ("head",), "here")
