"""Taps of the large models are where they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked
from edgekd.detectors.spec import Needs, RegionHead
from edgekd.detectors.torchvision.heads import features
from edgekd.detectors.torchvision.models import MODELS

SIDES = {"ssdlite320_mobilenet_v3_large": 320}
LARGE = [name for name in MODELS if not name.endswith("-p") and "320_fpn" not in name]


@pytest.mark.parametrize("name", LARGE)
def test_maps_have_their_strides_and_the_head_reads_them(name: str) -> None:
    detector: Any = families.open_detector(None, Asked(name, None, ("cat",), 3, "test"))
    side = SIDES.get(name, detector.spec.size_multiple)
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        taps = run(detector, images, Needs(detector.spec.taps)).taps
        read = features(detector.module, images)
    for tap in detector.spec.taps:
        cells = -(-side // tap.stride)
        assert taps[tap.key].shape == (1, tap.channels, cells, cells), tap
    for tap in detector.spec.taps_of("neck"):
        assert any(torch.equal(taps[tap.key], one) for one in read if one.shape == taps[tap.key].shape)
    if isinstance(detector.spec.head, RegionHead):
        assert detector.spec.head.width == (512 if name == "ssd300_vgg16" else 1024)
