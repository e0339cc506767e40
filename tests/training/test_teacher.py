"""The teacher's layout in memory is its own affair: what it hands out is what the frozen detector says."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.spec import Needs
from edgekd.training.teacher import Teacher
from tests.training.helpers import detector


@pytest.mark.parametrize(
    "name", ["yolov8n", "yolo11n", "yolo12n", "yolo26n", pytest.param("rtdetr-l", marks=pytest.mark.slow)]
)
def test_outputs_on_the_cpu_are_those_of_the_frozen_detector(name: str) -> None:
    built = detector(name)
    teacher = Teacher(built.frozen(), ClassMap.identity(len(built.spec.class_names))).to(torch.device("cpu"))
    needs = Needs(built.spec.taps_of("neck"), frozenset({"class_logits", "boxes"}))
    images = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        wanted = run(built.frozen(), images, needs)
    found = teacher.forward(images, needs)
    for path in [tap.key for tap in needs.taps]:
        assert found.taps[path].is_contiguous()
        torch.testing.assert_close(found.taps[path], wanted.taps[path], rtol=1e-4, atol=1e-4)
    for branch, predictions in wanted.dense.items():
        torch.testing.assert_close(found.dense[branch].class_logits, predictions.class_logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.dense[branch].boxes_px, predictions.boxes_px, rtol=1e-4, atol=1e-2)
    if wanted.queries:
        assert found.queries is not None
        torch.testing.assert_close(found.queries.class_logits, wanted.queries.class_logits, rtol=1e-3, atol=1e-3)
