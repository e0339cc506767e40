"""Small RTMDets whose weights say something: fresh ones give the same everywhere."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import torch
from torch import nn

from edgekd.detectors.outputs import Batch
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.detectors.rtmdet.network import RTMDet
from edgekd.detectors.rtmdet.scales import SCALES

CLASSES = ("cat", "dog", "owl")


def lively(network: nn.Module, seed: int = 0, spread: float = 0.3) -> None:
    """Statistics of batch norms, and a head, as a trained network has: scores and boxes differ from point to point.

    `spread`: of the weights that give both.
    """
    generator = torch.Generator().manual_seed(seed)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.1, generator=generator)
        elif name.endswith("bn.weight"):
            value.uniform_(0.8, 1.6, generator=generator)
        elif "rtm_" in name and name.endswith("weight"):
            value.normal_(0, spread, generator=generator)
        elif "rtm_reg" in name and name.endswith("bias"):
            value.uniform_(1, 2, generator=generator)
        elif "rtm_cls" in name and name.endswith("bias"):
            value.uniform_(-2.5, -0.5, generator=generator)
    network.load_state_dict(state)


def network(scale: str = "p", classes: tuple[str, ...] = CLASSES, exponential: bool | None = None) -> RTMDet:
    """In eval mode; `exponential`: None as the scale has it."""
    return deepcopy(_network(scale, classes, exponential))


@cache
def _network(scale: str, classes: tuple[str, ...], exponential: bool | None) -> RTMDet:
    size = SCALES[scale]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = RTMDet(size if exponential is None else replace(size, exponential=exponential), classes)
    lively(found)
    return found.eval()


def detector(scale: str = "p", exponential: bool | None = None) -> RTMDetDetector:
    """See `network`."""
    return RTMDetDetector(network(scale, exponential=exponential), f"rtmdet-{scale}")


def images(height: int = 64, width: int = 96, count: int = 2) -> torch.Tensor:
    """Noise in 0..1."""
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def batch() -> Batch:
    """Two images of 64 x 96 px; the second one has no object."""
    boxes = torch.tensor([[5.0, 5.0, 40.0, 44.0], [30.0, 10.0, 90.0, 60.0]])
    return Batch(images(), torch.tensor([0, 0]), torch.tensor([1, 2]), boxes)
