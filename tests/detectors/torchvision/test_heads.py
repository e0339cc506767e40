"""Boxes and points of the heads."""

from __future__ import annotations

import torch

from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import DenseHead
from edgekd.detectors.torchvision.heads import decoded
from edgekd.distill.points import SharedPoints


def test_boxes_are_decoded_and_clipped() -> None:
    """FCOS: distances in sides of the anchor from its centre."""
    from torchvision.models.detection._utils import BoxLinearCoder

    class Network:
        box_coder = BoxLinearCoder(normalize_by_size=True)

    anchors = torch.tensor([[-4.0, -4.0, 4.0, 4.0], [4.0, 12.0, 12.0, 20.0]])
    codes = torch.tensor([[[1.0, 0.0, 2.0, 1.0], [0.5, 1.0, 0.25, 9.0]]])
    boxes = decoded(Network(), codes, anchors, torch.zeros(1, 3, 32, 48))
    assert boxes.tolist() == [[[0.0, 0.0, 16.0, 8.0], [4.0, 8.0, 10.0, 32.0]]]


def test_fcos_and_rtmdet_predict_at_the_same_points() -> None:
    """So methods that compare heads point by point serve that pair."""
    heads = [
        families.open_detector(None, Asked(name, None, ("cat",), 3, "test")).spec.head
        for name in ("rtmdet-p", "fcos-p", "retinanet-p")
    ]
    student, fcos, retinanet = (head for head in heads if isinstance(head, DenseHead))
    assert SharedPoints.of(student, fcos).student_levels == (0, 1, 2)
    assert SharedPoints.of(student, retinanet).student_levels == ()
