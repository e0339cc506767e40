"""The road out of torch is the one that YOLO takes: ONNX gives what torch gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.export import parity
from edgekd.export.contract import Source
from edgekd.export.targets import run_steps
from tests.detectors.rtmdet.networks import CLASSES, detector
from tests.export.students import photographs, target

SIZE = (64, 96)


def source(exponential: bool = False) -> Source:
    one = detector(exponential=exponential)
    module = one.export_module()
    return Source(module, module.decode, CLASSES, 3, SIZE, one.spec.size_multiple, sha256="5eed" * 16)  # type: ignore[arg-type]


@pytest.mark.parametrize("exponential", [False, True])
def test_onnx_equals_torch(tmp_path: Path, exponential: bool) -> None:
    start, wanted = source(exponential), target("onnx-fp32")
    artifact = run_steps(start, wanted, tmp_path / wanted.name)
    record = parity.require(start.module, artifact, photographs(3, *SIZE), wanted)
    assert record["passed"] is True
    assert record["boxes"] > 50
    assert record["max_abs_score"] < 1e-5
    assert record["max_abs_box_px"] < 1e-3


def test_any_size(tmp_path: Path) -> None:
    start, wanted = source(), target("onnx-fp32", size="dynamic", batch="dynamic")
    artifact = run_steps(start, wanted, tmp_path / wanted.name)
    record = parity.require(start.module, artifact, photographs(3, *SIZE), wanted)
    assert record["passed"] is True
    assert record["max_abs_score"] < 1e-5
