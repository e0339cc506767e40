import math

import pytest
import torch

from edgekd.distill.neck.frs import frs_class_loss, frs_feature_loss
from edgekd.distill.neck.score_l2 import score_l2_loss
from edgekd.errors import InputError

from ..helpers import boxes_of, build, random_output, spec, taps, terms


def test_feature_value_by_hand() -> None:
    """Two channels, two positions with scores 1 and 1/4; summed over channels."""
    student = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 1, 2)
    score = torch.tensor([1.0, 0.25]).reshape(1, 1, 2)
    expected = (1.0 * (1 + 9) + 0.25 * (4 + 16)) / 1.25
    assert frs_feature_loss(student, torch.zeros(1, 2, 1, 2), score).item() == pytest.approx(expected)


def test_is_score_l2_times_the_channels() -> None:
    student, teacher, score = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2, 4, 4)
    expected = 3 * score_l2_loss(student, teacher, score).item()
    assert frs_feature_loss(student, teacher, score).item() == pytest.approx(expected, rel=1e-5)


def test_class_value_by_hand() -> None:
    """One point of score 1/2, teacher's p = 3/4, student's 1/2: BCE is ln 2 per class, whatever the score."""
    teacher = torch.full((1, 1, 2), math.log(3.0))
    value = frs_class_loss(torch.zeros(1, 1, 2), teacher, torch.tensor([[0.5]]))
    assert value.item() == pytest.approx(2 * math.log(2))
    known = torch.tensor([True, False])
    assert frs_class_loss(torch.zeros(1, 1, 2), teacher, torch.tensor([[0.5]]), known).item() == pytest.approx(
        math.log(2)
    )


def test_no_gradient_at_identity() -> None:
    logits = torch.randn(2, 5, 3, requires_grad=True)
    frs_class_loss(logits, logits.detach(), torch.rand(2, 5)).backward()
    assert logits.grad is not None and logits.grad.abs().max() < 1e-6
    feature = torch.randn(2, 3, 4, 4)
    assert frs_feature_loss(feature, feature, torch.rand(2, 4, 4)).item() == 0.0


def test_levels_are_summed_each_by_its_own_scores() -> None:
    """As the code does: a level's weights sum to one, however little the teacher sees there."""
    side = spec("a", (4, 4))
    method = build("frs", side, side)
    student, teacher = random_output(side), random_output(side, seed=1)
    logits, ours = teacher.dense["one2many"].class_logits.detach(), student.dense["one2many"].class_logits
    expected = sum(
        frs_class_loss(ours[:, part], logits[:, part], logits[:, part].sigmoid().amax(-1)).item()
        for part in (slice(0, 16), slice(16, 20))
    )
    assert terms(method, student, teacher)["class"].item() == pytest.approx(0.05 * expected, rel=1e-5)


def test_needs_no_objects() -> None:
    pair = spec("a", (4, 6)), spec("b", (5, 6))
    outputs = [random_output(side, seed=seed) for seed, side in enumerate(pair)]
    assert terms(build("frs", *pair), *outputs, boxes_of([], [])) == terms(build("frs", *pair), *outputs)


def test_nothing_seen_gives_nothing() -> None:
    feature = torch.randn(2, 3, 4, 4)
    assert frs_feature_loss(feature, feature + 1, torch.zeros(2, 4, 4)).item() == 0.0


def test_a_teacher_with_one_branch_serves_a_student_with_two() -> None:
    student, teacher = spec("a", (4, 6), branches=("one2many", "one2one")), spec("b", (5, 6))
    found = terms(build("frs", student, teacher), random_output(student), random_output(teacher, seed=1))
    assert found["class"] > 0


def test_a_tap_without_scores_of_its_stride_is_refused() -> None:
    deep = spec("deep", (4,), (8,), taps=taps("neck", (4,), (8,)) + taps("backbone", (4,), (4,)))
    with pytest.raises(InputError, match=r"frs: tap backbone.4 has stride 4, but teacher deep has scores at strides 8"):
        build("frs", deep, deep, taps="backbone")


def test_magnitude_beside_a_detection_loss() -> None:
    """Standard normal maps of 64 channels on two levels: 0.01 x 2 x 64 x about 2."""
    pair = spec("a", (64, 64)), spec("b", (64, 64))
    outputs = [random_output(side, size_px=128, seed=seed) for seed, side in enumerate(pair)]
    assert 0.5 < terms(build("frs", *pair), *outputs)["feature"].item() < 2.5
