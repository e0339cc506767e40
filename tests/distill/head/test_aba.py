import math

import pytest
import torch

from edgekd.distill.head.aba import interval_loss

TRUTH, TEACHER = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[0.0, 0, 12, 20]])


def trust(teacher: float, student: float) -> float:
    return 1 / (1 + math.exp(-(teacher - student) / 0.1))


def test_an_edge_between_truth_and_teacher_costs_nothing() -> None:
    for right in (10.0, 11.0, 12.0):
        assert interval_loss(torch.tensor([[0.0, 0, right, 20]]), TEACHER, TRUTH).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("right", "overlap"), [(15.0, 10 / 15), (8.0, 0.8)])
def test_value_by_hand(right: float, overlap: float) -> None:
    """The right edge lies outside the interval 10..12 by 3 or by 2, of a width of 10; a quarter of it for one edge."""
    outside = max(right - 12, 10 - right) / 10
    expected = outside / 4 * trust(10 / 12, overlap)
    value = interval_loss(torch.tensor([[0.0, 0, right, 20]]), TEACHER, TRUTH).item()
    assert value == pytest.approx(expected, rel=1e-4)


def test_a_better_teacher_is_trusted_more() -> None:
    student = torch.tensor([[0.0, 0, 15, 20]])
    good, bad = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 5, 10, 12]])
    assert interval_loss(student, good, TRUTH).item() > 5 * interval_loss(student, bad, TRUTH).item()


def test_value_does_not_depend_on_the_scale() -> None:
    student = torch.tensor([[1.0, 0, 15, 24]])
    small = interval_loss(student, TEACHER, TRUTH).item()
    assert interval_loss(student * 8, TEACHER * 8, TRUTH * 8).item() == pytest.approx(small, rel=1e-5)


def test_gradient_moves_an_edge_towards_the_interval() -> None:
    student = torch.tensor([[0.0, 0, 15, 20]], requires_grad=True)
    interval_loss(student, TEACHER, TRUTH).sum().backward()
    assert student.grad is not None and student.grad[0, 2] > 0 and student.grad[0, [0, 1, 3]].abs().sum() == 0
