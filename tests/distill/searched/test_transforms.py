"""Each transform by hand, or by another way to compute it."""

from __future__ import annotations

import pytest
import torch

from edgekd.distill.attention import channel_attention, spatial_attention
from edgekd.distill.searched.transforms import Sides, alike, attended, normalised, scaled

from ..helpers import wave

OURS, THEIRS = wave(2, 3, 4, 4), wave(2, 3, 4, 4, phase=1.0)


def sides() -> Sides:
    return Sides(OURS, THEIRS, alike(THEIRS))


def test_a_squared_distance_under_attention_is_weighted_by_it() -> None:
    found = attended(sides(), "spatial", torch.Generator())
    torch.testing.assert_close(found.teacher.square(), THEIRS.square() * spatial_attention(THEIRS, 0.5))
    found = attended(sides(), "channel", torch.Generator())
    torch.testing.assert_close(found.student.square(), OURS.square() * channel_attention(OURS, 0.5))
    assert attended(sides(), "none", torch.Generator()).student is OURS


def test_a_mask_hides_the_same_positions_on_both_sides_and_they_count_for_nothing() -> None:
    many = Sides(torch.ones(4, 2, 40, 40), torch.ones(4, 2, 40, 40) * 3, torch.ones(4, 40, 40))
    found = attended(many, "mask", torch.Generator().manual_seed(0))
    assert torch.equal(found.student[:, 0], found.weight) and torch.equal(found.teacher[:, 1], found.weight * 3)
    assert found.weight.mean().item() == pytest.approx(0.35, abs=0.02)
    again = attended(many, "mask", torch.Generator().manual_seed(0))
    assert torch.equal(found.weight, again.weight)


def test_pooling_takes_the_largest_and_rounds_up() -> None:
    feature = torch.arange(9.0).reshape(1, 1, 3, 3)
    found = scaled(Sides(feature, -feature, alike(feature)), "pool2")
    assert found.student.flatten().tolist() == [4, 5, 7, 8]
    assert found.teacher.flatten().tolist() == [0, -2, -6, -8]
    assert found.weight.shape == (1, 2, 2)
    assert scaled(Sides(feature, feature, alike(feature)), "pool4").student.flatten().tolist() == [8]


def test_patches_become_samples_and_padding_counts_for_nothing() -> None:
    feature = torch.arange(9.0).reshape(1, 1, 3, 3) + 1
    found = scaled(Sides(feature, feature, alike(feature)), "local2")
    assert found.student.shape == (4, 1, 2, 2)
    assert found.student[0].flatten().tolist() == [1, 2, 4, 5]
    assert found.student[1].flatten().tolist() == [3, 0, 6, 0]
    assert found.weight[1].flatten().tolist() == [1, 0, 1, 0]
    assert found.weight.sum().item() == 9
    assert scaled(sides(), "local4").student.shape == (32, 3, 1, 1)
    torch.testing.assert_close(
        scaled(sides(), "local2").student[4:8], scaled(Sides(OURS[1:], OURS[1:], OURS[1:, 0]), "local2").student
    )


@pytest.mark.parametrize(("kind", "axes"), [("n", (0,)), ("c", (1,)), ("hw", (2, 3)), ("batch", (0, 2, 3))])
def test_standardised_along_an_axis(kind: str, axes: tuple[int, ...]) -> None:
    feature = OURS * 5 + 3
    found = normalised(feature, f"norm_{kind}")
    expected = (feature - feature.mean(axes, keepdim=True)) / feature.std(axes, keepdim=True, unbiased=False)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("kind", "axes"), [("n", (0,)), ("c", (1,)), ("hw", (2, 3))])
def test_of_length_one_along_an_axis(kind: str, axes: tuple[int, ...]) -> None:
    found = normalised(OURS, f"unit_{kind}")
    lengths = found.square().sum(axes)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    torch.testing.assert_close(found, OURS / OURS.square().sum(axes, keepdim=True).sqrt())


def test_two_images_standardised_along_the_batch_have_no_gradient() -> None:
    """Why what the paper found has `unit_n`: two values less their mean, over their deviation, are always +-1."""
    feature = (wave(2, 3, 4, 4) * 3).requires_grad_()
    (normalised(feature, "norm_n") * THEIRS).sum().backward()
    assert feature.grad is not None and feature.grad.abs().max() < 1e-3
    feature.grad = None
    (normalised(feature, "unit_n") * THEIRS).sum().backward()
    assert feature.grad.abs().max() > 0.1


def test_from_zero_to_one_per_image_and_distributions() -> None:
    found = normalised(OURS * 4 - 2, "min_max")
    torch.testing.assert_close(found.amax((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(found.amin((1, 2, 3)), torch.zeros(2))
    torch.testing.assert_close(normalised(OURS, "softmax_c"), OURS.softmax(1))
    torch.testing.assert_close(normalised(OURS, "softmax_hw").flatten(2), OURS.flatten(2).softmax(2))
