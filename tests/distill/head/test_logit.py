import math

import pytest
import torch
from torch import Tensor

from edgekd.distill.head.logit import logit_loss

from ..helpers import build, random_output, spec, terms


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_value_by_hand() -> None:
    """Two points with confidences 0.9 and 0.6, the student undecided everywhere: BCE = ln 2 per class."""
    teacher = torch.tensor([[[logit(0.9), logit(0.1)], [logit(0.2), logit(0.6)]]])
    weight = torch.tensor([[0.9, 0.6]])
    assert logit_loss(torch.zeros(1, 2, 2), teacher, weight).item() == pytest.approx(2 * math.log(2), rel=1e-6)
    modulated = (0.9 * (0.4 + 0.4) + 0.6 * (0.3 + 0.1)) * math.log(2) / 1.5
    assert logit_loss(torch.zeros(1, 2, 2), teacher, weight, beta=1.0).item() == pytest.approx(modulated, rel=1e-5)


def test_weights_that_sum_to_less_than_one_are_not_blown_up() -> None:
    teacher, weight = torch.zeros(1, 1, 1), torch.full((1, 1), 0.25)
    assert logit_loss(torch.zeros(1, 1, 1), teacher, weight).item() == pytest.approx(0.25 * math.log(2))


def test_gradient_is_zero_at_identity() -> None:
    teacher = torch.randn(2, 5, 3)
    student = teacher.clone().requires_grad_()
    weight = teacher.amax(-1).sigmoid()
    logit_loss(student, teacher, weight).backward()
    assert student.grad is not None and student.grad.abs().max() < 1e-7
    assert logit_loss(student, teacher, weight, beta=1.0).item() == 0.0


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_gradient_is_the_weighted_difference_of_probabilities(beta: float) -> None:
    """The modulation is a constant in it."""
    student, teacher = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 3)
    weight = teacher.amax(-1).sigmoid()
    logit_loss(student, teacher, weight, beta=beta).backward()
    difference = student.sigmoid() - teacher.sigmoid()
    expected = weight.unsqueeze(-1) * difference * difference.abs().pow(beta) / weight.sum()
    torch.testing.assert_close(student.grad, expected.detach())


def test_equals_a_plain_loop() -> None:
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    known = torch.tensor([True, False, True, True])
    total, weights = 0.0, 0.0
    for image in range(2):
        for point in range(3):
            targets = teacher[image, point].sigmoid()
            weight = targets[known].max().item()
            weights += weight
            for k in (0, 2, 3):
                p, t = student[image, point, k].sigmoid().item(), targets[k].item()
                total -= weight * abs(p - t) ** 2 * (t * math.log(p) + (1 - t) * math.log(1 - p))
    weight = teacher.masked_fill(~known, -math.inf).amax(-1).sigmoid()
    assert logit_loss(student, teacher, weight, known, beta=2.0).item() == pytest.approx(total / weights, rel=1e-5)


def test_unknown_classes_get_no_gradient() -> None:
    student = torch.randn(1, 4, 3, requires_grad=True)
    known = torch.tensor([True, False, True])
    logit_loss(student, torch.randn(1, 4, 3), torch.ones(1, 4), known).backward()
    assert student.grad is not None
    assert student.grad[..., 1].abs().sum() == 0 and (student.grad[..., [0, 2]] != 0).all()


def branch_losses(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> list[float]:
    return [
        logit_loss(ours, teacher[name], teacher[name].detach().amax(-1).sigmoid()).item()
        for name, ours in student.items()
    ]


def test_two_branches_learn_from_their_own_and_are_averaged() -> None:
    pair = spec("yolo26n", branches=("one2many", "one2one")), spec("yolo26x", branches=("one2many", "one2one"))
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(pair))
    losses = branch_losses(
        {name: branch.class_logits for name, branch in student.dense.items()},
        {name: branch.class_logits for name, branch in teacher.dense.items()},
    )
    value = terms(build("logit", *pair), student, teacher)["class"].item()
    assert value == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_two_branches_learn_from_a_teacher_with_one() -> None:
    pair = spec("yolo26n", branches=("one2many", "one2one")), spec("yolo11x")
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(pair))
    only = teacher.dense["one2many"].class_logits
    losses = branch_losses(
        {name: branch.class_logits for name, branch in student.dense.items()}, {"one2many": only, "one2one": only}
    )
    value = terms(build("logit", *pair), student, teacher)["class"].item()
    assert value == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_magnitude_of_an_untrained_student() -> None:
    """A confident teacher and an undecided student: about K ln 2, whatever the number of points."""
    for points in (10, 1000):
        teacher = torch.full((2, points, 10), -6.0)
        teacher[..., 0] = 3.0
        value = logit_loss(torch.zeros_like(teacher), teacher, teacher.amax(-1).sigmoid()).item()
        assert value == pytest.approx(10 * math.log(2), rel=1e-5)
