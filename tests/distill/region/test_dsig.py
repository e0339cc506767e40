import math

import pytest
import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.region.dsig import edge_loss, node_loss

from ..helpers import build, dense, random_output, scene, spec, terms, wave

# Recorded from projects/Distillation/utils of dvlab-research/Dsig (c8a534c) on the same inputs, torch 2.14: the first
# three regions are one image, the others another.
EDGES_SUMMED, NODES = 1.491558313369751, (0.969967782497406, 1.080751895904541)


def images(regions: Tensor) -> Tensor:
    """Five regions as two images of three, (2, 3, D)."""
    return torch.cat([regions, torch.zeros_like(regions[:1])]).flatten(1).reshape(2, 3, -1)


def test_losses_equal_the_official_code() -> None:
    student, teacher = (images(wave(5, 4, 3, 3, step=step) / 2) for step in (0.37, 0.61))
    chosen = torch.tensor([[True, True, True], [True, True, False]])
    assert edge_loss(student, teacher, chosen).sum().item() == pytest.approx(EDGES_SUMMED, rel=1e-5)
    found = node_loss(student, teacher, torch.full((2, 3), 36), chosen)
    assert found.tolist() == [pytest.approx(value, rel=1e-5) for value in NODES]


def test_values_by_hand() -> None:
    """Two nodes at a right angle against two in line: two of four cosines differ by one."""
    student = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]])
    both = torch.ones(1, 2).bool()
    assert edge_loss(student, teacher, both).item() == pytest.approx(0.5 * 2 / 4)
    assert node_loss(student, teacher, torch.tensor([[2, 1]]), both).item() == pytest.approx((9 + 25) / 3)


def test_zero_at_identity_and_without_nodes() -> None:
    nodes, none = torch.randn(2, 3, 8), torch.zeros(2, 3).bool()
    assert edge_loss(nodes, nodes, ~none).tolist() == [0.0, 0.0]
    assert (
        edge_loss(nodes, -nodes, none).tolist() == node_loss(nodes, -nodes, torch.ones(2, 3), none).tolist() == [0, 0]
    )


def test_background_is_what_the_teacher_sees_and_no_label_explains() -> None:
    """The teacher is sure of two boxes of 16 px, one of which is labelled."""
    side = spec("a", (4,), (8,))
    scores = torch.full((1, 16, 3), -9.0)
    scores[0, 5], scores[0, 10] = 3.0, 1.0  # centres 12, 12 and 20, 20
    boxes = torch.zeros(1, 16, 4, 5)
    boxes[..., 1] = 20.0
    teacher = DetectorOutput(
        {"neck.8": torch.randn(1, 4, 4, 4)}, {"one2many": dense(scores, boxes, size_px=32, strides=[8])}
    )
    batch = Batch(
        torch.zeros(1, 3, 32, 32), torch.zeros(1).long(), torch.zeros(1).long(), torch.tensor([[4.0, 4, 20, 20]])
    )
    known = build("dsig", side, side).knowledge(teacher, batch)
    assert known["is_object"].tolist() == [[True, False, False]] and known["valid"].tolist() == [[True, False, True]]
    assert known["boxes"][0, 2].tolist() == [pytest.approx(value, abs=1e-4) for value in (12, 12, 28, 28)]
    assert known["scores"][0, 2].item() == pytest.approx(1 / (1 + math.exp(-1)))


@pytest.mark.parametrize(
    ("mined", "entropy", "expected"), [(10, 0.6, [1, 2]), (1, 0.6, [2]), (10, 2.0, [2]), (0, 0, [])]
)
def test_edges_reach_the_background_that_the_teacher_errs_at(mined: int, entropy: float, expected: list[int]) -> None:
    """Cross-entropies of 0.92 and 2.3; the third region is an object."""
    side = spec("a", (4,), (8,))
    method = build("dsig", side, side, mined=mined, min_cross_entropy=entropy)
    others = torch.tensor([[True, True, True, False]])
    found = method._mined(torch.tensor([[0.3, 0.6, 0.9, 0.99]]), others)  # type: ignore[operator]
    assert found.nonzero()[:, 1].tolist() == expected


def test_background_weighs_by_the_ratio_of_objects() -> None:
    """Without objects it counts nothing, with as many as background 7.5 times."""
    side = spec("a", (4, 6))
    method = build("dsig", side, side, max_detections=3, edge=0.0, foreground=0.0)
    student, teacher = random_output(side), random_output(side, seed=1)
    full = terms(method, student, teacher, scene())["background"].item()
    none = Batch(torch.zeros(2, 3, 32, 32), torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0, 4))
    values = terms(method, student, teacher, none)
    assert full > 0 and values["background"].item() == 0.0 and values["background"].requires_grad


def test_magnitude_beside_a_detection_loss() -> None:
    side = spec("a", (64, 64))
    values = terms(build("dsig", side, side), random_output(side), random_output(side, seed=1), scene())
    assert 0.01 < sum(value.item() for value in values.values()) < 5
