"""Attention and boxes of query detectors, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from edgekd.detectors.queries import CrossAttention, as_maps, as_tokens, corners_px, explicit_attention


def test_places_are_shared_among_the_cells_around_them() -> None:
    """One level of 2 x 4 cells: a place in a cell's centre, one between four, one half outside; weights 0.5, 0.25."""
    places = torch.tensor([[[[0.375, 0.25], [0.5, 0.5]], [[1.0, 0.25], [-3.0, 0.5]]]])
    weights = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
    cross = CrossAttention(weights, places, torch.tensor([0, 0]), ((2, 4),))
    (found,) = cross.onto_levels(torch.tensor([[1.0, 2.0]]))
    expected = [[0.0, 0.5 + 0.125, 0.125, 0.25], [0.0, 0.125, 0.125, 0.0]]
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_half_precision_hits_the_right_cells() -> None:
    """Row 70 and column 33 of 80 x 80 is cell 5633, a number that half precision does not have."""
    places = torch.tensor([[[[33.5 / 80, 70.5 / 80]]]]).half()
    cross = CrossAttention(torch.ones(1, 1, 1).half(), places, torch.tensor([0]), ((80, 80),))
    (found,) = cross.onto_levels(torch.ones(1, 1).half())
    assert float(found[0, 70, 33]) == pytest.approx(1, abs=0.05)
    assert float(found.sum()) == pytest.approx(1, abs=0.01)


def test_dense_attention_is_added_up_per_level() -> None:
    weights = torch.tensor([[[0.1, 0.2, 0.3, 0.4, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]]])
    cross = CrossAttention(weights, None, torch.tensor([0, 0, 0, 0, 1]), ((2, 2), (1, 1)))
    fine, coarse = cross.onto_levels(torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(fine, torch.tensor([[[0.2, 0.3], [0.4, 0.5]]]))
    torch.testing.assert_close(coarse, torch.tensor([[[0.1]]]))


def test_attention_by_hand() -> None:
    """Two heads of one channel each: keys 0 and log 3 give 1/4 and 3/4 in the first, equal keys 1/2 in the second."""
    queries = torch.tensor([[[1.0, 1.0]]])
    keys = torch.tensor([[[0.0, 5.0], [math.log(3), 5.0]]])
    torch.testing.assert_close(explicit_attention(queries, keys, 2), torch.tensor([[[0.375, 0.625]]]))


def test_shares_become_corners() -> None:
    boxes = corners_px(torch.tensor([[[0.5, 0.5, 0.5, 0.2]]]), torch.zeros(1, 3, 20, 40))
    assert boxes[0, 0].tolist() == pytest.approx([10, 8, 30, 12])


def test_corners_of_half_precision_are_not_rounded_again() -> None:
    """The shares are exact in either precision; 534.53125 px is not."""
    boxes = corners_px(torch.tensor([[[0.8125, 0.5, 0.04541015625, 0.5]]]).half(), torch.zeros(1, 3, 640, 640))
    assert boxes.dtype == torch.float32
    assert boxes[0, 0].tolist() == [505.46875, 160, 534.53125, 480]


def test_maps_there_and_back() -> None:
    maps = (torch.arange(12.0).reshape(1, 2, 2, 3), torch.arange(2.0).reshape(1, 2, 1, 1))
    tokens = as_tokens(maps)
    assert tokens.shape == (1, 7, 2)
    assert tokens[0, 1].tolist() == [1.0, 7.0]
    assert all(torch.equal(one, other) for one, other in zip(as_maps(tokens, [(2, 3), (1, 1)]), maps, strict=True))
