import math
from dataclasses import replace

import pytest
import torch

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.spec import QueryHead
from edgekd.distill.region.gid_losses import gid_box_loss, gid_class_loss, gid_feature_loss, gid_relation_loss
from edgekd.distill.requirements import unmet

from ..helpers import batch_of, build, dense, pair_of, random_output, spec, terms, wave

# Recorded from GID/gid/loss.py of daixinghome/Distill_GID_detectron2 (9118c54) on the same inputs, torch 2.14.
FEATURE, RELATION, CLASS = 4.057126045227051, 0.47453761100769043, 2.877279758453369


def test_losses_equal_the_official_code() -> None:
    student, teacher = wave(5, 4, 3, 3, step=0.37) / 2, wave(5, 4, 3, 3, step=0.61) / 2
    assert gid_feature_loss(student, teacher).item() == pytest.approx(FEATURE, rel=1e-5)
    assert gid_relation_loss(student, teacher).item() == pytest.approx(RELATION, rel=1e-4)
    chosen = torch.tensor([0, 1, 3, 5])
    logits = (1.5 * wave(6, 3, step=step)[chosen] for step in (0.9, 1.3))
    assert gid_class_loss(*logits).item() == pytest.approx(CLASS, rel=1e-5)


def test_values_by_hand() -> None:
    """Three points on a line at 0, 1, 2 against 0, 1, 4: mean distances 4/3 and 8/3."""
    line = [torch.tensor([[0.0], [1.0], [end]]) for end in (2.0, 4.0)]
    gaps = [1 / (4 / 3) - 1 / (8 / 3), 2 / (4 / 3) - 4 / (8 / 3), 1 / (4 / 3) - 3 / (8 / 3)]
    expected = sum(2 * 0.5 * gap**2 for gap in gaps) / 6
    assert gid_relation_loss(*line).item() == pytest.approx(expected, rel=1e-5)
    assert gid_relation_loss(line[0][:2], line[1][:2]).item() == 0.0
    assert gid_feature_loss(torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)).item() == 3.0  # summed over channels
    assert gid_class_loss(torch.zeros(2, 3), torch.zeros(2, 3)).item() == pytest.approx(3 * math.log(2))
    teacher = torch.tensor([[0.0, 0, 10, 20]])
    assert gid_box_loss(teacher + torch.tensor([1.0, 2, 0, -4]), teacher).item() == pytest.approx(0.1 + 0.1 + 0.2)


def test_zero_at_identity_and_without_instances() -> None:
    feature = torch.randn(4, 3, 2, 2)
    assert gid_feature_loss(feature, feature).item() == gid_relation_loss(feature, feature).item() == 0.0
    for loss, shape in ((gid_feature_loss, (0, 3, 2, 2)), (gid_relation_loss, (0, 3, 2, 2)), (gid_class_loss, (0, 3))):
        assert loss(torch.zeros(shape), torch.zeros(shape)).item() == 0.0
    assert gid_box_loss(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0.0


def one_point(logit: float, distances: float, *, base: float = -9.0) -> DetectorOutput:
    """A 4 x 4 grid of stride 8 that scores at point 5 (centre 12, 12) with a box of so many cells to every side."""
    scores = torch.full((2, 16, 3), base)
    scores[:, 5, 1] = logit
    boxes = torch.zeros(2, 16, 4, 5)
    boxes[..., int(distances)] = 20.0
    maps = {"neck.8": torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(int(logit)))}
    found = dense(scores.requires_grad_(), boxes.requires_grad_(), size_px=32, strides=[8])
    return DetectorOutput(maps, {"one2many": found})


def test_instances_are_where_the_two_disagree_with_the_box_of_the_surer_one() -> None:
    side = spec("a", (4,), (8,))
    method = build("gid", side, side)
    student, teacher = one_point(-9.0, 2), one_point(3.0, 1)  # the teacher's box is 4, 4, 20, 20
    sides = [
        (output.dense["one2many"].class_logits, output.dense["one2many"].boxes_px) for output in (student, teacher)
    ]
    found = method._instances(*sides[0], *sides[1], batch_of().images)  # type: ignore[operator, union-attr]
    assert found.boxes_px[:, 0].tolist() == [[pytest.approx(v, abs=1e-4) for v in (4, 4, 20, 20)]] * 2
    values = terms(method, student, teacher)
    # The teacher's box of point 5 alone overlaps by 0.5, of the student's also those beside it do not.
    assert values["class"].item() > 0 and values["box"].item() == pytest.approx(4 * 8 / 16, rel=1e-3)


def test_equal_models_have_no_box_error_and_no_gradient() -> None:
    side = spec("a", (4,), (8,))
    student, teacher = one_point(3.0, 1), one_point(3.0, 1)
    values = terms(build("gid", side, side), student, teacher)
    assert values["box"].item() == 0.0
    values["class"].backward()
    grad = student.dense["one2many"].class_logits.grad
    assert grad is not None and grad.abs().max().item() == pytest.approx(0.0, abs=1e-7)


def test_magnitude_beside_a_detection_loss() -> None:
    side = spec("a", (64, 64))
    outputs = [random_output(side, size_px=64, seed=seed) for seed in (0, 1)]
    total = sum(value.item() for value in terms(build("gid", side, side), *outputs, batch_of(2, 64)).values())
    assert 0.1 < total < 100  # relations come with a factor of 40


def test_two_branches_and_refusals() -> None:
    both = spec("yolo26", (4, 6), branches=("one2many", "one2one"))
    student, teacher = random_output(both), random_output(both, seed=1)
    sum(terms(build("gid", both, both), student, teacher).values()).backward()  # type: ignore[union-attr]
    assert all(branch.class_logits.grad is not None for branch in student.dense.values())
    query = replace(spec("rtdetr"), head=QueryHead(6, 300, 256), class_names=("cat",))
    method = build("gid", both, both)
    reasons = unmet(method.requires, pair_of(both, query))
    assert len(reasons) == 2 and reasons[0].startswith("needs a dense head on both sides")
