import pytest
import torch

from edgekd.distill.masks import random_mask, strongest_hidden


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
