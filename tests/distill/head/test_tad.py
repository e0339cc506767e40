import math

import pytest
import torch

from edgekd.distill.boxes import box_loss
from edgekd.distill.contract import distiller_type
from edgekd.distill.head.tad import bell_loss, better_box_loss, class_divergence

from ..helpers import build, random_output, spec, terms

TRUTH = torch.tensor([[0.0, 0, 10, 10]])
NEAR, FAR = TRUTH + torch.tensor([0.0, 0, 1, 0]), TRUTH + torch.tensor([0.0, 0, 6, 3])


def test_features_by_hand() -> None:
    """Differences 2 and 6, their squares weighted 3 : 1, halved."""
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[2.0, 6.0]]]])
    assert bell_loss(student, teacher, torch.tensor([[[3.0, 1.0]]])).item() == pytest.approx((12 + 36) / (2 * 4))


def test_classes_by_hand() -> None:
    """p_T = 3/4, p_S = 1/2 in one of two classes, equal in the other."""
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    value = class_divergence(torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]]))
    assert value.item() == pytest.approx(kl, rel=1e-5)


def test_only_better_boxes_teach() -> None:
    assert better_box_loss(NEAR, FAR, TRUTH).item() == 0.0
    assert better_box_loss(FAR, NEAR, TRUTH).item() == pytest.approx(box_loss(FAR, NEAR).item())
    assert better_box_loss(NEAR, NEAR, TRUTH).item() == 0.0


def test_it_fades_out_as_in_the_paper() -> None:
    """r(t) = 1 - (t - 1) / t_max of epochs from 1."""
    schedule = distiller_type("tad").config_type().schedule
    assert [schedule.factor(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])


def test_zero_at_identity() -> None:
    side = spec("a")
    output = random_output(side)
    assert all(value.abs() < 1e-6 for value in terms(build("tad", side, side), output, output).values())
