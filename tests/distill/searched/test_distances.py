"""Each distance by hand: of two channels at a position, or against the method whose distance it is."""

from __future__ import annotations

import math
from itertools import product
from typing import get_args

import pytest
import torch

from edgekd.distill.neck.cwd import cwd_loss
from edgekd.distill.neck.pkd import pkd_loss
from edgekd.distill.neck.ssim import ssim_loss
from edgekd.distill.searched.distances import compared, correlation, divergence, map_distance, mean_distance
from edgekd.distill.searched.options import CHOICES, FeatureDistance
from edgekd.distill.searched.transforms import Sides, alike

from ..helpers import wave

OURS, THEIRS = wave(2, 3, 9, 8), wave(2, 3, 9, 8, phase=1.0)
PLAIN = {"attention": "none", "scale": "none", "normalise": "none", "distance": "l1"}


def at_a_position(kind: str, student: list[float], teacher: list[float]) -> float:
    ours, theirs = (torch.tensor(values).float().reshape(1, -1, 1, 1) for values in (student, teacher))
    return mean_distance(ours, theirs, torch.ones(1, 1, 1), kind).item()


@pytest.mark.parametrize(
    ("kind", "student", "teacher", "expected"),
    [
        ("l1", [1, 2], [0, 5], 2.0),
        ("l2", [1, 2], [0, 5], 5.0),
        ("smooth_l1", [1, 2], [0.5, 5], (0.125 + 2.5) / 2),
        ("cosine", [3, 4], [4, 3], 1 - 24 / 25),
        ("cosine", [1, 0], [0, 1], 1.0),
        ("cosine", [1, 0], [-2, 0], 2.0),
        ("cosine", [1, 2], [5, 10], 0.0),
        ("pearson", [1, 2, 3], [10, 20, 30], 0.0),
        ("pearson", [1, 2, 3], [3, 2, 1], 2.0),
        ("pearson", [1, 2, 3], [1, 3, 2], 0.5),
    ],
)
def test_values_by_hand(kind: str, student: list[float], teacher: list[float], expected: float) -> None:
    assert at_a_position(kind, student, teacher) == pytest.approx(expected, abs=1e-5)


def test_positions_count_their_weight() -> None:
    """Two positions, 1 and 3 apart, that count 3 and 1; none that count give 0."""
    student, teacher = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]])
    assert mean_distance(student, teacher, torch.tensor([[[3.0, 1.0]]]), "l1").item() == pytest.approx(1.5)
    assert mean_distance(student, teacher, torch.zeros(1, 1, 2), "l1").item() == 0.0


def test_divergence_by_hand_and_its_direction() -> None:
    """KL(teacher || student) of (1/2, 1/2) and (1/4, 3/4): logarithms on both sides."""
    student = torch.tensor([1.0, 3.0]).log().reshape(1, 2, 1, 1)
    value = divergence(student, torch.zeros(1, 2, 1, 1), torch.ones(1, 1, 1))
    assert value.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-5)


def test_correlation_by_hand() -> None:
    """Channels of correlation 1 and -1: log2(1 + 0 + 2^2.02)."""
    student = torch.tensor([[1.0, 2, 3], [1, 2, 3]]).reshape(1, 2, 3, 1)
    teacher = torch.tensor([[2.0, 4, 6], [3, 2, 1]]).reshape(1, 2, 3, 1)
    value = correlation(student, teacher, torch.ones(1, 3, 1))
    assert value.item() == pytest.approx(math.log2(1 + 2**2.02), rel=1e-4)


def test_other_methods_losses_are_among_them() -> None:
    """PKD is half of norm_batch and l2, CWD (tau 1) is softmax_hw and kl, SSIM is ssim."""
    whole = Sides(OURS, THEIRS, alike(THEIRS))
    values = OURS.numel() // OURS.shape[1]
    pkd = compared(whole, "norm_batch", "l2") / 2 * (values - 1) / values
    assert pkd.item() == pytest.approx(pkd_loss(OURS, THEIRS).item(), rel=1e-4)
    assert compared(whole, "softmax_hw", "kl").item() == pytest.approx(cwd_loss(OURS, THEIRS, 1.0).item(), rel=1e-5)
    assert compared(whole, "none", "ssim").item() == pytest.approx(ssim_loss(OURS, THEIRS).item(), rel=1e-5)


@pytest.mark.parametrize("distance", get_args(FeatureDistance))
def test_zero_at_identity_and_a_finite_gradient_for_every_combination(distance: str) -> None:
    choices = CHOICES["global"]
    for attention, scale, normalise in product(choices["attention"], choices["scale"], choices["normalise"]):
        parts = {"attention": attention, "scale": scale, "normalise": normalise, "distance": distance}
        same = map_distance(OURS, OURS, alike(OURS), parts, torch.Generator().manual_seed(0))
        assert same.item() == pytest.approx(0.0, abs=1e-5), parts
        student = OURS.clone().requires_grad_()
        value = map_distance(student, THEIRS, alike(THEIRS), parts, torch.Generator().manual_seed(0))
        value.backward()
        assert value > 0 and student.grad is not None and student.grad.isfinite().all(), parts


def test_no_sample_gives_zero_that_is_connected() -> None:
    student = torch.zeros(0, 3, 4, 4, requires_grad=True)
    value = map_distance(student, torch.zeros(0, 3, 4, 4), torch.zeros(0, 4, 4), PLAIN, torch.Generator())
    assert value.item() == 0.0 and value.requires_grad
