from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import SCALES, model_names
from tests.detectors.rtmdet.networks import images, network

# Millions of weights and billions of multiplications at 640 px of the published table (mmdetection 3.3.0, configs/
# rtmdet/README.md), whose tiny one counts 4.8 and whose weights are 4.9.
PUBLISHED = {"tiny": (4.85, 8.1), "s": (8.89, 14.8), "m": (24.71, 39.27), "l": (52.3, 80.23), "x": (94.86, 141.67)}


@pytest.mark.parametrize("scale", PUBLISHED)
def test_size_and_cost_are_the_published_ones(scale: str) -> None:
    with torch.device("meta"):
        built = RTMDet(SCALES[scale], tuple(map(str, range(80)))).eval()
        blank = torch.zeros(1, 3, 640, 640)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built(blank)
    weights, cost = PUBLISHED[scale]
    assert sum(value.numel() for value in built.parameters()) / 1e6 == pytest.approx(weights, rel=0.011)
    assert counter.get_total_flops() / 2e9 == pytest.approx(cost, rel=0.01)  # convolutions; the table counts norms, too


def test_p_is_an_eighth_as_wide_as_l() -> None:
    assert SCALES["p"].levels == tuple(channels // 8 for channels in SCALES["l"].levels)
    assert model_names() == [f"rtmdet-{scale}" for scale in ("p", "tiny", "s", "m", "l", "x")]


def test_input_is_blue_first_with_the_published_mean_and_deviation() -> None:
    red = torch.zeros(1, 3, 1, 1)
    red[:, 0] = 1
    found = network().normalised(red).flatten().tolist()
    assert found == pytest.approx([-103.53 / 57.375, -116.28 / 57.12, (255 - 123.675) / 58.395], rel=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_without_colours_are_as_grey(channels: int) -> None:
    built = RTMDet(SCALES["p"], ("a",), channels).eval()
    found = built.normalised(torch.full((1, channels, 1, 1), 114.495 / 255))
    assert found.flatten().tolist() == pytest.approx([0.0] * channels, abs=1e-5)
    with torch.no_grad():
        assert built(torch.rand(1, channels, 32, 32))[0].shape == (1, 1, 16 + 4 + 1)


def test_convolutions_of_the_head_are_shared_and_norms_are_not() -> None:
    head = network().bbox_head
    for towers in (head.cls_convs, head.reg_convs):
        for depth in range(2):
            assert len({id(tower[depth].conv) for tower in towers}) == 1
            assert len({id(tower[depth].bn) for tower in towers}) == 3


def test_fresh_scores_are_the_prior() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fresh = RTMDet(SCALES["p"], ("a", "b")).eval()
    with torch.no_grad():
        logits, _ = fresh(images())
    assert logits.sigmoid().numpy() == pytest.approx(0.01, abs=1e-3)


def test_exponential_heads_give_the_exponent_of_what_others_give() -> None:
    plain, exponential = network(exponential=False), network(exponential=True)
    exponential.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(exponential(images())[1], plain(images())[1].exp())
