from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgekd.detectors.contract import Detector, Trainable
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

    @pytest.fixture
    def extended(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`open` gives boxes that have an extent, which a fresh detector's have not."""
        plain = type(self).open

        def opened(own: TestRTMDet) -> Detector:
            made = plain(own)
            lively(made.module)
            return made

        monkeypatch.setattr(type(self), "open", opened)

    @pytest.mark.usefixtures("extended")
    def test_proposals(self) -> None:
        """Of boxes that have an extent."""
        super().test_proposals()
