import math

import pytest
import torch

from edgekd.distill.head.rank_mimicking import rank_loss

from ..helpers import batch_of, build, random_output, spec, terms


def test_value_by_hand() -> None:
    """Object 7 has candidates 3/4 : 1/4 at the teacher and 1/2 : 1/2 at the student; object 2 has a single one."""
    teacher = torch.tensor([math.log(3.0), 5.0, 0.0])
    group = torch.tensor([7, 2, 7])
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert rank_loss(torch.zeros(3), teacher, group).item() == pytest.approx(kl / 2, rel=1e-5)


def test_equals_a_loop_over_objects() -> None:
    student, teacher, group = torch.randn(40) * 5, torch.randn(40) * 5, torch.randint(6, (40,))
    losses = []
    for one in group.unique():
        ours, theirs = student[group == one].log_softmax(0), teacher[group == one].log_softmax(0)
        losses.append((theirs.exp() * (theirs - ours)).sum())
    assert rank_loss(student, teacher, group).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_gradient_is_the_difference_of_shares_and_zero_at_identity() -> None:
    student, teacher, group = torch.randn(5, requires_grad=True), torch.randn(5), torch.zeros(5).long()
    rank_loss(student, teacher, group).backward()
    torch.testing.assert_close(student.grad, (student.softmax(0) - teacher.softmax(0)).detach())
    assert rank_loss(teacher + 3, teacher, group).item() == pytest.approx(0.0, abs=1e-6), "shifts do not count"


def test_both_branches_rank_the_candidates_of_the_first() -> None:
    """The one-to-one branch's own assignment has one point an object: nothing to rank."""
    side = spec("yolo26n", branches=("one2many", "one2one"))
    student, teacher = random_output(side), random_output(side, seed=1)
    student.dense["one2one"].assigned = None
    rows = student.dense["one2many"].assignment.foreground
    losses = [
        rank_loss(
            one.class_logits[rows][:, 0], teacher.dense[name].class_logits[rows][:, 0], rows.nonzero()[:, 0]
        ).item()
        for name, one in student.dense.items()
    ]
    value = terms(build("rank_mimicking", side, side), student, teacher, batch_of())["rank"].item()
    assert value == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_magnitude() -> None:
    """Ten candidates, an undecided student and a teacher that is sure of one: ln 10, times the weight of 4."""
    teacher = torch.full((20,), -20.0)
    teacher[[3, 15]] = 5.0
    value = rank_loss(torch.zeros(20), teacher, torch.arange(20) // 10).item()
    assert value == pytest.approx(math.log(10), rel=1e-4)
