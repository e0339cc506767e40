import math

import pytest
import torch
import torch.nn.functional as F

from edgekd.distill.boxes import box_loss
from edgekd.distill.head.kdhl import bounded_box_loss, soft_class_loss

from ..helpers import build, random_output, spec, terms

TRUTH = torch.tensor([[0.0, 0, 10, 10]])
NEAR, FAR = TRUTH + torch.tensor([0.0, 0, 1, 0]), TRUTH + torch.tensor([0.0, 0, 6, 3])


def test_classes_by_hand() -> None:
    """One point, one class, p_T = 3/4, p_S = 1/2: ln 2 (3/4 + 1/4 * 1.5), over a confidence of 3/4 that counts as 1."""
    teacher, confidence = torch.full((1, 1, 1), math.log(3.0)), torch.full((1, 1), 0.75)
    expected = math.log(2) * (0.75 + 0.25 * 1.5)
    assert soft_class_loss(torch.zeros(1, 1, 1), teacher, confidence).item() == pytest.approx(expected, rel=1e-6)


def test_without_a_heavier_background_classes_are_plain_bce() -> None:
    student, teacher, confidence = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.rand(2, 5)
    expected = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="sum") / confidence.sum()
    found = soft_class_loss(student, teacher, confidence, background=1.0)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_heavier_background_pulls_scores_below_the_teachers() -> None:
    """The minimum lies at p_T / (p_T + w (1 - p_T))."""
    teacher = torch.tensor([[[0.4]]])
    score = teacher.sigmoid()
    best = (score / (score + 1.5 * (1 - score))).logit().requires_grad_()
    soft_class_loss(best, teacher, torch.ones(1, 1)).backward()
    assert best.grad is not None and best.grad.abs().max() < 1e-6 and best < teacher


def test_boxes_are_bounded_by_the_teachers() -> None:
    assert bounded_box_loss(NEAR, FAR, TRUTH).item() == 0.0
    assert bounded_box_loss(FAR, NEAR, TRUTH).item() == pytest.approx(box_loss(FAR, TRUTH, "ciou").item())
    worse_by = (box_loss(FAR, TRUTH, "ciou") - box_loss(NEAR, TRUTH, "ciou")).item()
    assert bounded_box_loss(NEAR, FAR, TRUTH, worse_by + 0.01).item() > 0, "within the margin"


def test_a_bounded_box_has_no_gradient() -> None:
    student = NEAR.clone().requires_grad_()
    bounded_box_loss(student, FAR, TRUTH).sum().backward()
    assert student.grad is not None and student.grad.abs().sum() == 0


def test_terms_have_the_gains_of_the_students_own_losses() -> None:
    """Magnitude: an untrained student's terms beside YOLO's 0.5 BCE and 7.5 (1 - CIoU)."""
    side = spec("a")
    student, teacher = random_output(side), random_output(side, seed=3)
    found = terms(build("kdhl", side, side), student, teacher)
    ours, theirs = student.dense["one2many"], teacher.dense["one2many"]
    rows = ours.assignment.foreground
    truth = torch.tensor([[4.0, 4, 20, 20]]).expand(int(rows.sum()), 4)
    boxes = bounded_box_loss(ours.boxes_px[rows], theirs.boxes_px[rows], truth).mean().item()
    assert found["box"].item() == pytest.approx(3.75 * boxes, rel=1e-5)
    confidence = theirs.class_logits.amax(-1).sigmoid()
    classes = soft_class_loss(ours.class_logits, theirs.class_logits, confidence).item()
    assert found["class"].item() == pytest.approx(0.5 * classes, rel=1e-5)
