from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from edgekd.distill.backbone.gankd import discriminator_loss, fool_loss
from edgekd.distill.contract import distiller_type
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms

OURS, THEIRS = spec("small", (4, 6)), spec("large", (5, 6))


def test_value_by_hand() -> None:
    """D = 3/4 for one map of the student and 1/4 for another; 1/2 for the teacher's."""
    fake, real = torch.tensor([math.log(3.0), -math.log(3.0)]), torch.zeros(2)
    assert fool_loss(fake).item() == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    expected = -math.log(0.5) - (math.log(1 - 0.75) + math.log(1 - 0.25)) / 2
    assert discriminator_loss(real, fake).item() == pytest.approx(expected)


def test_nothing_to_learn_where_both_sides_are_the_same() -> None:
    """At identity no discriminator beats 2 ln 2, where its gradient in the logit is zero."""
    logit = torch.zeros(3, requires_grad=True)
    value = discriminator_loss(logit, logit)
    value.backward()
    assert value.item() == pytest.approx(2 * math.log(2.0))
    assert logit.grad is not None and logit.grad.abs().max().item() == pytest.approx(0.0, abs=1e-7)


def test_each_side_is_trained_by_its_own_term_alone() -> None:
    method: Any = build("gankd", OURS, THEIRS)
    student, teacher = random_output(OURS), random_output(THEIRS, seed=1)
    terms(method, student, teacher)["fool"].backward(retain_graph=True)
    assert all(tap.grad is not None and tap.grad.abs().sum() > 0 for tap in student.taps.values())
    assert method.levels.adapters[0].weight.grad.abs().sum() > 0
    assert all(value.grad is None for value in method.discriminators.parameters())
    for tap in student.taps.values():
        tap.grad = None
    method.zero_grad()
    terms(method, student, teacher)["discriminator"].backward()
    assert all(value.grad.abs().sum() > 0 for value in method.discriminators.parameters())
    assert method.levels.adapters[0].weight.grad is None
    assert all(tap.grad is None for tap in student.taps.values())
    assert distiller_type("gankd").auxiliary == {"discriminator"}


def test_one_step_for_both_is_what_two_in_turn_would_do() -> None:
    """The gradients of the sum are those of the two losses alone."""
    method: Any = build("gankd", OURS, THEIRS)
    student, teacher = random_output(OURS), random_output(THEIRS, seed=1)
    found = terms(method, student, teacher)
    learners = {"fool": list(student.taps.values()), "discriminator": list(method.discriminators.parameters())}
    alone = {name: torch.autograd.grad(found[name], over, retain_graph=True) for name, over in learners.items()}
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(torch.equal(tap.grad, own) for tap, own in zip(student.taps.values(), alone["fool"], strict=True))
    judges = zip(method.discriminators.parameters(), alone["discriminator"], strict=True)
    assert all(torch.equal(value.grad, own) for value, own in judges)


def test_a_discriminator_learns_and_a_student_passes_it() -> None:
    """Ten steps each: what the discriminator tells apart, the student's maps then move to."""
    side = spec("a", (6,), (4,))
    method: Any = build("gankd", side, side, width=8)
    student, teacher = random_output(side, batch=8), random_output(side, batch=8, seed=1)
    teacher.taps["neck.4"].data.add_(1.0)
    for name, learner in (
        ("discriminator", method.discriminators.parameters()),
        ("fool", [student.taps["neck.4"]]),
    ):
        optimiser = torch.optim.Adam(learner, lr=0.05)
        course = []
        for _ in range(10):
            optimiser.zero_grad()
            loss = terms(method, student, teacher)[name]
            loss.backward()
            optimiser.step()
            course.append(loss.item())
        assert course[-1] < 0.7 * course[0]


def test_magnitude_beside_a_detection_loss() -> None:
    """A fresh discriminator cannot tell: ln 2 a level, whatever size and width; three levels beside a loss of 8."""
    method = build("gankd", OURS, THEIRS)
    value = terms(method, random_output(OURS), random_output(THEIRS, seed=1))["fool"].item()
    assert value == pytest.approx(2 * math.log(2.0), rel=0.1)
    assert method.config.weight == 1.0
    assert 0.05 < 3 * value / 2 / 8 < 0.5


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="gankd: no level of equal stride: student small neck has strides 8; teacher"):
        build("gankd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))
