from __future__ import annotations

from collections.abc import Sequence

from edgekd.detectors.contract import Trainable
from edgekd.testing.detectors import NAMES
from edgekd.testing.training import TrainableContract
from tests.detectors.rtmdet.networks import lively


class TestRTMDet(TrainableContract):
    family, model = "rtmdet", "rtmdet-p"

    def student(self, names: Sequence[str] = NAMES, channels: int = 3) -> Trainable:
        """Not a fresh one: its boxes have no extent, so that no IoU says what a score should be, and its loss first
        grows with the boxes."""
        made = super().student(names, channels)
        lively(made.module)
        return made
