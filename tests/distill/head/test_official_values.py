"""Values that the authors' own code gave for inputs that anybody can make: `wave` of helpers.py, boxes by hand.

CrossKD (jbwang1997/CrossKD, `kd_loss.py`), BCKD (TinyTigerPan/BCKD, `kd_loss.py`), SoLAD (cybercore-co-ltd/CoLAD,
`focal_kl_loss.py`), the valuable region (HikariTJU/LD, `atss_assigner.py`).
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.head.bckd import binary_class_loss
from edgekd.distill.head.ld import ld_loss
from edgekd.distill.head.solad import focal_kl_loss
from edgekd.distill.valuable import valuable_region

from ..helpers import dense, wave


def logits(*shape: int) -> tuple[Tensor, Tensor]:
    return wave(*shape), wave(*shape, step=0.9, phase=1.0)


def test_crosskd_and_bckd_classes() -> None:
    """Forty points of seven classes, over eleven positives: one function in both."""
    student, teacher = logits(1, 40, 7)
    assert binary_class_loss(student, teacher, torch.tensor(11)).item() == pytest.approx(10.21379, rel=1e-5)


def test_crosskd_boxes() -> None:
    """Ten points of 17 bins with weights 0.1 to 1, times 4."""
    student, teacher = (values.reshape(10, 4, 17) for values in logits(40, 17))
    value = 4 * ld_loss(student, teacher, torch.arange(1.0, 11) / 10)
    assert value.item() == pytest.approx(5.66024, rel=1e-5)


def test_solad_classes() -> None:
    student, teacher = logits(1, 40, 7)
    assert focal_kl_loss(student, teacher, torch.full((1, 40), 11 / 40)).item() == pytest.approx(7.86009, rel=1e-5)


def test_valuable_region() -> None:
    """Four boxes on an image of 128 px with three levels: 166 of 336 points."""
    boxes = torch.tensor([[8.0, 8, 40, 40], [20, 30, 100, 90], [0, 0, 20, 12], [60, 60, 120, 127]])
    batch = Batch(torch.zeros(1, 3, 128, 128), torch.zeros(4).long(), torch.zeros(4).long(), boxes)
    grid = dense(torch.zeros(1, 336, 3), size_px=128, strides=[8, 16, 32])
    region = valuable_region(grid.points_px, grid.point_strides, grid.level_sizes, batch)
    assert (region > 0).sum() == 166
    assert region.sum().item() == pytest.approx(53.41394, rel=1e-5)
    assert region.max().item() == pytest.approx(0.62972, rel=1e-5)
