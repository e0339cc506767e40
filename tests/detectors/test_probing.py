"""What modules give, found by one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekd.detectors.probing import named_taps, shapes_of


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=8, padding=1)
        self.down = nn.MaxPool2d(2)
        self.tower = nn.Conv2d(4, 5, 1)
        self.idle = nn.Conv2d(4, 5, 1)
        self.pool = nn.Flatten()

    def forward(self, images: Tensor) -> None:
        fine = self.stem(images)
        self.tower(fine)
        self.pool(self.tower(self.down(fine)))


def test_shapes_of_every_call_and_no_trace_of_the_pass() -> None:
    network = Network().train()
    network.down.eval()
    found = shapes_of(network, ["stem", "tower", "idle", "pool", "nowhere"], network, 3)
    assert found == {"stem": [(1, 4, 8, 8)], "tower": [(1, 5, 8, 8), (1, 5, 4, 4)], "idle": [], "pool": [(1, 80)]}
    assert network.training and network.stem.training and not network.down.training
    assert not any(part._forward_hooks for part in network.modules())


def test_taps_of_maps_alone() -> None:
    network = Network()
    taps = named_taps(network, ["tower", "pool", "idle"], network, 3, lambda path: "boxes")
    assert [(tap.key, tap.stride, tap.channels, tap.part) for tap in taps] == [
        ("tower", 8, 5, "boxes"),
        ("tower@1", 16, 5, "boxes"),
    ]
    assert torch.is_grad_enabled()
