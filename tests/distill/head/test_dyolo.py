import math

import pytest
import torch

from edgekd.distill.head.dyolo import map_nms, scaled_box_loss
from edgekd.distill.head.logit import logit_loss

from ..helpers import build, random_output, spec, terms


def test_nms_by_hand() -> None:
    """3 x 3 cells: the best of class 0 stays, a neighbour of class 1 stays, a weaker neighbour of class 0 goes."""
    logits = torch.full((1, 9, 2), -9.0)
    logits[0, 0, 0], logits[0, 1, 0], logits[0, 4, 1], logits[0, 8, 0] = 2.0, 1.0, 1.5, 0.5
    confidence = logits.amax(-1).sigmoid()
    kept = map_nms(logits, confidence, ((3, 3),))
    assert [kept[0, cell] > 0 for cell in (0, 1, 4, 8)] == [True, False, True, True]
    assert kept[0, 8] == confidence[0, 8], "the cell in the other corner is no neighbour of the first"


def test_levels_do_not_suppress_each_other() -> None:
    logits = torch.tensor([[[2.0], [1.0], [0.0], [-1.0], [0.5]]])
    kept = map_nms(logits, logits.amax(-1).sigmoid(), ((2, 2), (1, 1)))
    assert (kept > 0).tolist() == [[True, False, False, False, True]]


def test_boxes_by_hand() -> None:
    """Weights 1 and 3, the first box as the teacher's: 3/4 of the second's loss."""
    teacher = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 10]]])
    student = torch.tensor([[[0.0, 0, 10, 10], [0.0, 0, 10, 5]]])
    shape = 4 / math.pi**2 * (math.atan(1.0) - math.atan(2.0)) ** 2
    second = 0.5 + 2.5**2 / 200 + shape**2 / (0.5 + shape)
    value = scaled_box_loss(student, teacher, torch.tensor([[1.0, 3.0]])).item()
    assert value == pytest.approx(0.75 * second, rel=1e-4)


@pytest.mark.parametrize("nms", [True, False])
def test_terms(nms: bool) -> None:
    """Without NMS the class term is that of `logit`; the gains are those of YOLO's own losses."""
    side = spec("a")
    student, teacher = random_output(side), random_output(side, seed=1)
    ours, theirs = student.dense["one2many"], teacher.dense["one2many"]
    weight = theirs.class_logits.detach().amax(-1).sigmoid()
    if nms:
        weight = map_nms(theirs.class_logits.detach(), weight, ours.level_sizes)
        assert 2 < (weight > 0).sum() < weight.numel()
    found = terms(build("dyolo", side, side, nms=nms), student, teacher)
    classes = logit_loss(ours.class_logits, theirs.class_logits, weight).item()
    assert found["class"].item() == pytest.approx(0.5 * classes, rel=1e-5)
    boxes = scaled_box_loss(ours.boxes_px, theirs.boxes_px, weight).item()
    assert found["box"].item() == pytest.approx(7.5 * boxes, rel=1e-5)
