"""The suite of every family, on the small members."""

from __future__ import annotations

from typing import ClassVar

import pytest

from edgekd.testing.detectors import DetectorContract


class TestRetinaNet(DetectorContract):
    family, model = "torchvision", "retinanet-p"
    has_tails: ClassVar[bool] = False


class TestFCOS(DetectorContract):
    family, model = "torchvision", "fcos-p"
    has_tails: ClassVar[bool] = False


class TestSSDLite(DetectorContract):
    family, model = "torchvision", "ssdlite-p"
    has_tails: ClassVar[bool] = False


@pytest.mark.slow
class TestSSD300(DetectorContract):
    family, model = "torchvision", "ssd300_vgg16"


class TestFasterRCNN(DetectorContract):
    family, model = "torchvision", "fasterrcnn-p"
