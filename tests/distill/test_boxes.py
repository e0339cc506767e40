import math
from typing import get_args

import pytest
import torch

from edgekd.detectors.outputs import Batch
from edgekd.distill.boxes import BoxLoss, best_iou, box_loss, from_distances, iou

BOX, HALF = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, 5]])


def test_values_by_hand() -> None:
    """Half a square: IoU 1/2, the enclosing box is the square itself, centres 2.5 apart on a diagonal of sqrt(200)."""
    assert iou(BOX, HALF).item() == pytest.approx(0.5)
    assert box_loss(BOX, HALF).item() == pytest.approx(0.5, abs=1e-5)
    shape = 4 / math.pi**2 * (math.atan(2.0) - math.atan(1.0)) ** 2
    expected = 0.5 + 2.5**2 / 200 + shape**2 / (0.5 + shape)
    assert box_loss(BOX, HALF, "ciou").item() == pytest.approx(expected, rel=1e-4)


def test_the_other_losses_of_the_family_by_hand() -> None:
    """DIoU adds the squared distance of centres over the squared diagonal around both, EIoU sides over that box's, too.

    (0, 0, 4, 2) and (2, 0, 4, 4): 4 of 12 in common; centres (2, 1) and (3, 2), 2 apart squared; around both 4 x 4.
    """
    boxes = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[2.0, 0, 4, 4]])
    assert box_loss(*boxes, "iou").item() == pytest.approx(2 / 3)
    assert box_loss(*boxes, "giou").item() == pytest.approx(2 / 3 + (16 - 12) / 16, rel=1e-5)
    assert box_loss(*boxes, "diou").item() == pytest.approx(2 / 3 + 2 / 32, rel=1e-5)
    assert box_loss(*boxes, "eiou").item() == pytest.approx(2 / 3 + 2 / 32 + (4 - 2) ** 2 / 16 + (2 - 4) ** 2 / 16)


@pytest.mark.parametrize("kind", get_args(BoxLoss))
def test_the_family_is_zero_for_equal_boxes_and_does_not_depend_on_scale(kind: BoxLoss) -> None:
    assert box_loss(BOX, BOX, kind).item() == pytest.approx(0.0, abs=1e-6)
    assert box_loss(BOX * 7, HALF * 7, kind).item() == pytest.approx(box_loss(BOX, HALF, kind).item(), rel=1e-5)


def test_boxes_apart_have_a_giou_loss_above_one() -> None:
    """Two unit boxes with one between them: the enclosing box is a third empty."""
    apart = torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([[2.0, 0, 3, 1]])
    assert iou(*apart).item() == 0.0
    assert box_loss(*apart).item() == pytest.approx(1 + 1 / 3, rel=1e-5)


def test_ciou_equals_the_engines() -> None:
    from ultralytics.utils.metrics import bbox_iou

    corner, side = torch.rand(20, 2) * 50, torch.rand(20, 2) * 30 + 8
    ours = torch.cat([corner, corner + side], 1)
    theirs = ours + torch.randn(20, 4)
    expected = 1 - bbox_iou(ours, theirs, xywh=False, CIoU=True).squeeze(-1)
    torch.testing.assert_close(box_loss(ours, theirs, "ciou"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", get_args(BoxLoss))
def test_a_box_turned_inside_out_has_a_finite_loss_and_gradient(kind: BoxLoss) -> None:
    student = torch.tensor([[10.0, 10, 2, 3], [5.0, 5, 5, 5]], requires_grad=True)
    loss = box_loss(student, BOX.repeat(2, 1), kind)
    loss.sum().backward()
    assert loss.isfinite().all() and student.grad is not None and student.grad.isfinite().all()


def test_best_iou_is_of_the_own_image() -> None:
    boxes = torch.stack([BOX, HALF])  # one box on each of two images
    batch = Batch(torch.zeros(2, 3, 8, 8), torch.tensor([0, 0]), torch.zeros(2).long(), torch.cat([HALF, HALF * 0.5]))
    assert best_iou(boxes, batch).tolist() == [[pytest.approx(0.5)], [0.0]]


def test_distances_become_boxes() -> None:
    boxes = from_distances(torch.tensor([[20.0, 40]]), torch.tensor([8.0]), torch.tensor([[[1.0, 2, 0.5, 0]]]))
    assert boxes.tolist() == [[[12.0, 24, 24, 40]]]
