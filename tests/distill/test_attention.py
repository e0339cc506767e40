import math

import pytest
import torch

from edgekd.distill.attention import attentions, channel_attention, spatial_attention


def test_spatial_attention_by_hand() -> None:
    """Mean magnitudes 0 and ln 3 / 2 at temperature 0.5: softmax (1/4, 3/4), times two positions."""
    feature = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    assert spatial_attention(-feature, 0.5).flatten().tolist() == pytest.approx([0.5, 1.5])


def test_channel_attention_by_hand() -> None:
    """The same numbers, channels and positions exchanged."""
    feature = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]]).reshape(1, 2, 1, 2)
    assert channel_attention(feature, 0.5).flatten().tolist() == pytest.approx([0.5, 1.5])


def test_attentions_have_mean_one_per_image_and_are_computed_in_float32() -> None:
    feature = (100 * torch.randn(3, 5, 4, 6)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spatial, channel = spatial_attention(feature, 0.1), channel_attention(feature, 0.1)
    assert spatial.shape == (3, 1, 4, 6) and channel.shape == (3, 5, 1, 1)
    for attention in (spatial, channel):
        assert attention.dtype == torch.float32
        assert attention.flatten(1).mean(1).tolist() == pytest.approx([1.0] * 3, rel=1e-5)


def test_both_at_once_are_each_alone() -> None:
    feature = torch.randn(2, 5, 3, 4)
    both = attentions(feature, 0.5)
    assert torch.equal(both[0], spatial_attention(feature, 0.5))
    assert torch.equal(both[1], channel_attention(feature, 0.5))
