"""The engine's own detectors keep the contract of all families."""

from __future__ import annotations

import pytest

from edgekd.testing.detectors import DetectorContract
from edgekd.testing.training import TrainableContract


class TestYolo11(TrainableContract):
    family, model = "ultralytics", "yolo11p"


class TestYolo26(TrainableContract):
    family, model = "ultralytics", "yolo26p"


class TestTinyRtDetr(TrainableContract):
    family, model = "ultralytics", "rtdetr-p"


class TestRtDetr(DetectorContract):
    family, model = "ultralytics", "rtdetr-l"


@pytest.mark.slow
class TestRtDetrAsAStudent(TrainableContract):
    family, model = "ultralytics", "rtdetr-l"
