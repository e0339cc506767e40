import math

import pytest
import torch

from edgekd.detectors.outputs import DetectorOutput
from edgekd.distill.head.ld import ld_loss
from edgekd.distill.valuable import valuable_region
from edgekd.errors import InputError

from ..helpers import batch_of, build, dense, random_output, spec, terms


def test_value_by_hand() -> None:
    """One edge of four is (3/4, 1/4) at the teacher and (1/2, 1/2) at the student; two points of weights 1 and 3."""
    teacher = torch.zeros(2, 4, 2)
    teacher[1, 0, 0] = math.log(3.0)
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    weight = torch.tensor([1.0, 3.0])
    assert ld_loss(torch.zeros(2, 4, 2), teacher, weight).item() == pytest.approx(kl / 4 * 3 / 4, rel=1e-6)
    hot = ld_loss(torch.zeros(2, 4, 2), 10 * teacher, weight, temperature=10.0).item()
    assert hot == pytest.approx(100 * kl / 4 * 3 / 4, rel=1e-5)


def test_equals_the_papers_sum_over_bins() -> None:
    student, teacher, weight = torch.randn(6, 4, 17), torch.randn(6, 4, 17), torch.rand(6)
    q_student, q_teacher = ((r.double() / 10).softmax(-1) for r in (student, teacher))
    divergence = (q_teacher * (q_teacher / q_student).log()).sum(-1).mean(-1) * 100
    expected = (divergence * weight).sum() / weight.double().sum()
    assert ld_loss(student, teacher, weight, 10.0).item() == pytest.approx(expected.item(), rel=1e-4)


def test_zero_at_identity_and_under_shifts() -> None:
    teacher = torch.randn(5, 4, 16)
    assert ld_loss(teacher + torch.randn(5, 4, 1), teacher, torch.rand(5)).item() == pytest.approx(0.0, abs=1e-6)


def test_more_points_leave_the_value_unchanged() -> None:
    student, teacher, weight = torch.randn(9, 4, 16), torch.randn(9, 4, 16), torch.rand(9) + 0.2
    twice = ld_loss(student.repeat(2, 1, 1), teacher.repeat(2, 1, 1), weight.repeat(2))
    assert twice.item() == pytest.approx(ld_loss(student, teacher, weight).item(), rel=1e-5)


def test_few_weak_points_are_not_blown_up() -> None:
    student, teacher = torch.randn(1, 4, 16), torch.randn(1, 4, 16)
    full = ld_loss(student, teacher, torch.ones(1)).item()
    assert ld_loss(student, teacher, torch.full((1,), 0.1)).item() == pytest.approx(0.1 * full, rel=1e-5)


def one_confident_point(point: int) -> tuple[DetectorOutput, DetectorOutput]:
    """Student and teacher on a 4 x 4 grid of stride 8 whose teacher is sure (0.5) of one point only."""
    torch.manual_seed(0)
    scores = torch.full((2, 16, 3), -9.0)
    scores[:, point] = 0.0
    boxes = torch.randn(2, 2, 16, 4, 5)
    ours = dense(torch.zeros(2, 16, 3), boxes[0].requires_grad_(), size_px=32, strides=[8])
    return DetectorOutput({}, {"one2many": ours}), DetectorOutput(
        {}, {"one2many": dense(scores, boxes[1], size_px=32, strides=[8])}
    )


@pytest.mark.parametrize("region", ["confidence", "foreground"])
@pytest.mark.parametrize(("point", "inside"), [(5, True), (15, False)])  # centres (12, 12) and (28, 28); box 4..20
def test_region(region: str, point: int, inside: bool) -> None:
    side = spec("a", (4,), (8,))
    student, teacher = one_confident_point(point)
    value = terms(build("ld", side, side, region=region), student, teacher, batch_of(2))["box"]
    value.backward()
    ours, theirs = (output.dense["one2many"].box_logits for output in (student, teacher))
    assert ours is not None and theirs is not None and ours.grad is not None
    expected = ld_loss(ours[:, point], theirs[:, point], torch.full((2,), 0.5)).item()
    counts = inside or region == "confidence"
    assert value.item() == pytest.approx(expected if counts else 0.0, rel=1e-5)
    assert (ours.grad.abs().sum((0, 2, 3)) > 0).nonzero().flatten().tolist() == ([point] if counts else [])


def test_no_confident_point_gives_zero_with_a_gradient() -> None:
    side = spec("a", (4,), (8,))
    student, teacher = one_confident_point(0)
    value = terms(build("ld", side, side, min_confidence=0.9), student, teacher)["box"]
    assert value.item() == 0.0 and value.requires_grad


def test_branches_are_averaged() -> None:
    pair = spec("a", branches=("one2many", "one2one")), spec("b")
    student, teacher = (random_output(side, seed=seed) for seed, side in enumerate(pair))
    method = build("ld", *pair, min_confidence=0.0)
    target = teacher.dense["one2many"]
    assert target.box_logits is not None
    weight = target.class_logits.amax(-1).sigmoid().flatten()
    losses = []
    for branch in student.dense.values():
        assert branch.box_logits is not None
        losses.append(ld_loss(branch.box_logits.flatten(0, 1), target.box_logits.flatten(0, 1), weight).item())
    assert terms(method, student, teacher)["box"].item() == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_valuable_region_is_weighted_by_the_overlap_of_its_anchors() -> None:
    side = spec("a")
    student, teacher = random_output(side), random_output(side, seed=1)
    ours, theirs = student.dense["one2many"], teacher.dense["one2many"]
    region = valuable_region(ours.points_px, ours.point_strides, ours.level_sizes, batch_of())
    rows = region > 0
    assert ours.box_logits is not None and theirs.box_logits is not None and rows.any()
    expected = ld_loss(ours.box_logits[rows], theirs.box_logits[rows], region[rows]).item()
    found = terms(build("ld", side, side, valuable=0.25), student, teacher)
    assert found["valuable"].item() == pytest.approx(0.25 * expected, rel=1e-5)
    assert found["box"].item() == terms(build("ld", side, side), student, teacher)["box"].item()


def test_heads_with_anchors_have_no_pseudo_anchors() -> None:
    side = spec("a", anchors_per_cell=2)
    with pytest.raises(InputError, match="ld: valuable needs one prediction at each point"):
        build("ld", side, side, valuable=0.25)
