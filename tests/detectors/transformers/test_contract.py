"""The suite of every family, on the small members; those that differ little from another one are slow tests."""

from __future__ import annotations

import pytest

from edgekd.testing.detectors import DetectorContract
from edgekd.testing.training import TrainableContract

pytest.importorskip("transformers", reason="the extra hf is not installed")


class TestDETR(DetectorContract):
    family, model = "transformers", "detr-p"


@pytest.mark.slow
class TestConditionalDETR(DetectorContract):
    family, model = "transformers", "conditional-detr-p"


class TestDeformableDETR(DetectorContract):
    family, model = "transformers", "deformable-detr-p"


class TestTwoStageDeformableDETR(DetectorContract):
    family, model = "transformers", "deformable-detr-two-stage-p"


@pytest.mark.slow
class TestRTDETR(TrainableContract):
    family, model = "transformers", "rt-detr-p"


@pytest.mark.slow
class TestRTDETRv2(TrainableContract):
    family, model = "transformers", "rt-detr-v2-p"


class TestDFINE(TrainableContract):
    family, model = "transformers", "dfine-p"


@pytest.mark.slow
class TestDEIMv2(TrainableContract):
    family, model = "transformers", "deimv2-p"


@pytest.mark.slow
class TestTableTransformer(DetectorContract):
    family, model = "transformers", "table-transformer-p"


class TestDABDETR(DetectorContract):
    family, model = "transformers", "dab-detr-p"


@pytest.mark.slow
class TestLWDETR(DetectorContract):
    family, model = "transformers", "lw-detr-p"


class TestRFDETR(DetectorContract):
    family, model = "transformers", "rf-detr-p"
