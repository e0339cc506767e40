"""The teacher's layout in memory is its own affair: what it hands out is what the frozen detector says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

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


ASKED = Needs(parts=frozenset({"class_logits", "boxes", "decoder"}))


def answers(teacher: Teacher, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Content, logits and boxes of a question, asked in a step of mixed precision."""
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        queries = teacher.forward(images, ASKED).queries
        assert queries is not None
        boxes = 0.2 + 0.6 * torch.rand(len(images), 5, 4, generator=torch.Generator().manual_seed(1))
        content = queries.decoder.content_at(boxes)
        found = queries.decoder.ask(content, boxes)
    return content, found.class_logits, found.boxes_px


def test_questions_are_answered_in_the_teachers_own_precision() -> None:
    """In fp32 as without any mixed precision, to the last bit."""
    opened = families.open_detector("ultralytics", Asked("rtdetr-p", None, ("a", "b"), 3, "test"))
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    teacher = Teacher(opened.frozen(), ClassMap.identity(2), precision="fp32")
    found = answers(teacher, images)
    with torch.autocast("cpu", enabled=False):
        queries = teacher.forward(images, ASKED).queries
    assert queries is not None
    boxes = 0.2 + 0.6 * torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1))
    plain = queries.decoder.ask(found[0], boxes)
    assert torch.equal(found[0], queries.decoder.content_at(boxes))
    assert torch.equal(found[1], plain.class_logits) and torch.equal(found[2], plain.boxes_px)


def test_weights_in_half_precision_are_asked_in_a_step_of_mixed_precision() -> None:
    """D-FINE's norms want inputs of their own type."""
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    opened = families.open_detector("transformers", Asked("dfine-p", None, ("a", "b"), 3, "test"))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = answers(Teacher(opened.frozen(), ClassMap.identity(2), precision="bf16"), images)
    assert all(value.isfinite().all() for value in found)
