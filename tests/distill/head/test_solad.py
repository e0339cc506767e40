import math

import pytest
import torch

from edgekd.distill.boxes import best_iou
from edgekd.distill.head.solad import focal_kl_loss, soft_box_loss

from ..helpers import batch_of, build, random_output, spec, terms


def test_classes_by_hand() -> None:
    """p_T = 3/4, p_S = 1/2: KL times (1/16 + 1e-6)^(1/4), over a quality of 2."""
    teacher = torch.full((1, 1, 1), math.log(3.0))
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    value = focal_kl_loss(torch.zeros(1, 1, 1), teacher, torch.full((1, 1), 2.0))
    assert value.item() == pytest.approx(kl * (1 / 16 + 1e-6) ** 0.25 / 2, rel=1e-5)


def test_boxes_by_hand() -> None:
    """1 - GIoU of half a square is 1/2; a point of quality 0 does not count."""
    student = torch.tensor([[[0.0, 0, 10, 5], [50.0, 50, 60, 60]]])
    teacher = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10]]])
    value = soft_box_loss(student, teacher, torch.tensor([[3.0, 0.0]]))
    assert value.item() == pytest.approx(0.5, rel=1e-5)


def test_zero_at_identity() -> None:
    logits, boxes, quality = torch.randn(2, 3, 4), torch.rand(2, 3, 4).cumsum(-1) * 9, torch.rand(2, 3)
    student = logits.clone().requires_grad_()
    value = focal_kl_loss(student, logits, quality)
    value.backward()
    assert value.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad is not None and student.grad.abs().max() < 1e-6
    assert soft_box_loss(boxes, boxes, quality).item() == pytest.approx(0.0, abs=1e-5)


def test_quality_is_the_overlap_of_the_teachers_boxes_with_objects() -> None:
    side = spec("a")
    student, teacher = random_output(side), random_output(side, seed=1)
    method = build("solad", side, side, min_iou=0.2)
    overlap = best_iou(teacher.dense["one2many"].boxes_px, batch_of())
    kept = method.knowledge(teacher, batch_of())["quality:one2many"]
    assert torch.equal(kept, overlap * (overlap > 0.2)) and 0 < (kept > 0).sum() < (overlap > 0).sum()
    found = terms(method, student, teacher)
    ours, theirs = student.dense["one2many"], teacher.dense["one2many"]
    classes = focal_kl_loss(ours.class_logits, theirs.class_logits, kept).item()
    assert found["class"].item() == pytest.approx(2 * classes, rel=1e-5)
    boxes = soft_box_loss(ours.boxes_px, theirs.boxes_px, kept).item()
    assert found["box"].item() == pytest.approx(1.3 * boxes, rel=1e-5)
