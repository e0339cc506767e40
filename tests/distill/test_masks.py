import math

import pytest
import torch

from edgekd.detectors.outputs import Batch
from edgekd.distill.masks import cell_centres, gaussian_masks, random_mask, strongest_hidden, taught


def test_a_random_mask_hides_its_ratio_and_draws_from_its_generator_alone() -> None:
    before = torch.get_rng_state()
    mask, again = (random_mask((4, 1, 100, 100), 0.65, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(mask, again)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx(0.35, abs=0.01)


def test_no_ratio_hides_nothing() -> None:
    assert random_mask((2, 1, 8, 8), 0.0, torch.Generator()).min() == 1


def test_the_strongest_are_hidden_per_image() -> None:
    attention = torch.tensor([[1.0, 4.0, 3.0, 2.0], [9.0, 6.0, 7.0, 8.0]]).reshape(2, 1, 2, 2)
    assert strongest_hidden(attention, 0.5).flatten(1).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0]]
    assert strongest_hidden(attention, 0.0).min() == 1


def test_bells_by_hand() -> None:
    """A box of 8 x 16 around (8, 8): 1 in its centre, a quarter of its width away exp(-1/8), 0 outside."""
    batch = Batch(torch.zeros(2, 3, 32, 32), torch.tensor([1]), torch.tensor([0]), torch.tensor([[4.0, 0, 12, 16]]))
    points = torch.tensor([[8.0, 8], [10.0, 8], [10.0, 12], [13.0, 8]])
    bells = gaussian_masks(points, batch, 0.5)
    assert bells[0].abs().sum() == 0
    expected = [1.0, math.exp(-1 / 8), math.exp(-1 / 4), 0.0]
    assert bells[1].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_highest_bell_counts() -> None:
    boxes = torch.tensor([[0.0, 0, 16, 16], [4.0, 4, 8, 8]])
    batch = Batch(torch.zeros(1, 3, 32, 32), torch.tensor([0, 0]), torch.tensor([0, 0]), boxes)
    assert gaussian_masks(torch.tensor([[6.0, 6], [8.5, 8]]), batch, 0.5).tolist() == [
        [1.0, pytest.approx(math.exp(-0.5 * (0.5 / 8) ** 2), rel=1e-4)]
    ]


def test_cell_centres_are_row_by_row() -> None:
    assert cell_centres(torch.zeros(1, 1, 2, 3), 8).tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_objects_of_unknown_classes_are_not_taught() -> None:
    batch = Batch(torch.zeros(1, 3, 8, 8), torch.tensor([0, 0]), torch.tensor([1, 0]), torch.eye(2, 4))
    assert taught(batch, None) is batch
    assert taught(batch, torch.tensor([True, False])).boxes_px.tolist() == [[0, 1, 0, 0]]
