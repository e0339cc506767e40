"""The teacher's layout in memory is its own affair: what it hands out is what the frozen detector says."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
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


def test_maps_of_levels_are_not_confused_by_passes_for_other_needs() -> None:
    """A tower that all levels share runs once for each, in passes of other methods, too."""
    built = families.open_detector("rtmdet", Asked("rtmdet-p", None, ("cat",), 3, "test"))
    built = built.with_taps(["bbox_head.cls_convs.0.0.conv"])
    taps = built.spec.taps_of("named")
    assert [tap.call for tap in taps] == [0, 1, 2]
    teacher = Teacher(built.frozen(), ClassMap.identity(1)).to(torch.device("cpu"))
    images = torch.rand(1, 3, 64, 64)
    wanted = teacher.forward(images, Needs(taps)).taps
    assert [one.shape[-1] for one in wanted.values()] == [8, 4, 2]
    for needs in (Needs(taps[:1]), Needs(taps[2:]), Needs(taps[:1]), Needs(taps)):
        for other in (Needs(taps), Needs(taps[:1]), Needs(taps[2:])):
            teacher.forward(torch.rand(1, 3, 64, 64), other)
        for key, found in teacher.forward(images, needs).taps.items():
            assert torch.equal(found, wanted[key])
