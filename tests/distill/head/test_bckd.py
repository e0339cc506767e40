import math

import pytest
import torch

from edgekd.distill.boxes import box_loss
from edgekd.distill.head.bckd import binary_class_loss, disagreeing_box_loss

from ..helpers import build, random_output, spec, terms

ONE = torch.tensor(1)


def test_values_by_hand() -> None:
    """p_T = 3/4, p_S = 1/2: a difference of 1/4 times ln 2, over two positives."""
    teacher = torch.full((1, 1, 1), math.log(3.0))
    value = binary_class_loss(torch.zeros(1, 1, 1), teacher, torch.tensor(2))
    assert value.item() == pytest.approx(0.25 * math.log(2) / 2, rel=1e-6)
    boxes = torch.tensor([[[0.0, 0, 10, 10]]]), torch.tensor([[[0.0, 0, 10, 5]]])
    found = disagreeing_box_loss(*boxes, torch.full((1, 1), 0.25), torch.tensor(2))
    assert found.item() == pytest.approx(0.5 * 0.25 / 2, rel=1e-5)


def test_zero_at_identity() -> None:
    logits, boxes = torch.randn(2, 4, 3), torch.tensor([[[0.0, 0, 10, 10]]])
    assert binary_class_loss(logits, logits, ONE).item() == 0.0
    assert disagreeing_box_loss(boxes, boxes, torch.ones(1, 1), ONE).item() == pytest.approx(0.0, abs=1e-6)


def test_gradient_passes_through_the_factor() -> None:
    """d/dp of |p - t| BCE: the sign of the difference times BCE, and the factor times the difference."""
    student, teacher = torch.randn(2, 4, 3, requires_grad=True), torch.randn(2, 4, 3)
    binary_class_loss(student, teacher, ONE).backward()
    p, t = student.detach().sigmoid(), teacher.sigmoid()
    entropy = -(t * p.log() + (1 - t) * (1 - p).log())
    expected = (p - t).sign() * p * (1 - p) * entropy + (p - t).abs() * (p - t)
    torch.testing.assert_close(student.grad, expected, rtol=1e-4, atol=1e-6)


def test_terms_sum_over_all_points_and_divide_by_the_positives() -> None:
    side = spec("a", bins=1)
    student, teacher = random_output(side), random_output(side, seed=1)
    ours, theirs = student.dense["one2many"], teacher.dense["one2many"]
    count = ours.assignment.foreground.sum()
    assert count == 2 * 2, "one point of either level in each box"
    difference = (ours.class_logits.sigmoid() - theirs.class_logits.sigmoid()).abs()
    boxes = (box_loss(ours.boxes_px, theirs.boxes_px) * difference.amax(-1)).sum() / count
    found = terms(build("bckd", side, side), student, teacher)
    assert found["box"].item() == pytest.approx(4 * boxes.item(), rel=1e-5)
    assert found["class"].item() == pytest.approx(
        binary_class_loss(ours.class_logits, theirs.class_logits, count).item(), rel=1e-5
    )


def test_magnitude_of_an_undecided_student() -> None:
    """One confident point an object among many quiet ones: about (K / 2 + background) ln 2, whatever the image size."""
    values = []
    for points in (100, 1000):
        teacher, student = torch.full((1, points, 10), -6.0), torch.full((1, points, 10), -6.0)
        teacher[:, ::50, 0] = 3.0
        values.append(binary_class_loss(student, teacher, torch.tensor(points // 50)).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5) and 4 < values[0] < 7
