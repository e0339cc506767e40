from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from edgekd.distill.backbone.dmkd import Rebuild
from edgekd.errors import InputError

from ..helpers import build, random_output, spec, terms

SIDE = spec("a", (4,), (16,))


def test_value_by_hand() -> None:
    """A rebuilt map of zeros: the teacher's squares, summed over channels and positions, mean over images."""
    method: Any = build("dmkd", SIDE, SIDE)
    for generator in (method.rebuilds[0].spatial, method.rebuilds[0].channel):
        torch.nn.init.zeros_(generator[-1].weight)
        torch.nn.init.zeros_(generator[-1].bias)
    student, teacher = random_output(SIDE), random_output(SIDE, seed=1)
    teacher.taps["neck.16"].data.fill_(2.0)
    assert terms(method, student, teacher)["feature"].item() == pytest.approx(4 * 2 * 2 * 2.0**2)


def seen(**config: float) -> tuple[Tensor, Tensor]:
    """What reaches the two generators of a student map of ones; the teacher is strongest at one place and channel."""
    method: Any = build("dmkd", SIDE, SIDE, **config)
    caught: list[Tensor] = []
    for generator in (method.rebuilds[0].spatial, method.rebuilds[0].channel):
        generator.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0].detach()))
    student, teacher = random_output(SIDE, batch=1), random_output(SIDE, batch=1, seed=1)
    student.taps["neck.16"].data.fill_(1.0)
    teacher.taps["neck.16"].data.fill_(0.1)
    teacher.taps["neck.16"].data[0, 2] = -5.0
    teacher.taps["neck.16"].data[0, :, 1, 0] = 9.0
    terms(method, student, teacher)
    return caught[0], caught[1]


def test_the_teachers_strongest_position_and_channel_are_hidden() -> None:
    positions, channels = seen(spatial_ratio=0.25, channel_ratio=0.25)
    assert positions[0, 0].tolist() == [[1.0, 1.0], [0.0, 1.0]]
    assert torch.equal(positions, positions[:, :1].expand_as(positions))
    assert channels[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert torch.equal(channels, channels[..., :1, :1].expand_as(channels))


def test_no_ratio_hides_nothing() -> None:
    assert all(each.min() == 1 for each in seen(spatial_ratio=0.0, channel_ratio=0.0))


def test_both_reconstructions_count_the_same_at_first() -> None:
    torch.manual_seed(0)
    rebuild = Rebuild(8)
    first, second = torch.randn(2, 8, 3, 3), torch.randn(2, 8, 3, 3)
    both = (rebuild.spatial(first) + rebuild.channel(second)) / 2
    gate = rebuild.gate(both.mean((2, 3)))[..., None, None]
    assert torch.allclose(rebuild(first, second), both * gate, atol=1e-6)


def test_magnitude_is_that_of_mgd() -> None:
    """Unit maps that nothing is known of: at most C H W a level beside what the fresh generators add."""
    side = spec("a", (64, 128, 256), (8, 16, 32))
    method = build("dmkd", side, side)
    student, teacher = random_output(side, size_px=96), random_output(side, size_px=96, seed=1)
    weighted = method.config.weight * terms(method, student, teacher)["feature"].item()
    assert weighted == pytest.approx(2e-5 * (64 * 144 + 128 * 36 + 256 * 9), rel=0.1)
    assert 0.02 < weighted / 8 < 0.06, "beside a detection loss of 8, at 96 px"


def test_other_strides_are_refused() -> None:
    with pytest.raises(InputError, match="dmkd: no level of equal stride: student small neck has strides 8; teacher"):
        build("dmkd", spec("small", (4,), (8,)), spec("vit", (4,), (16,)))
