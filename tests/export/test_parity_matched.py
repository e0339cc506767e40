"""Parity by matched detections: a share that a target may demand, recorded for every artifact."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edgekd.errors import InputError
from edgekd.export import parity
from edgekd.export.contract import Artifact
from edgekd.export.targets import run_steps
from edgekd.export.tolerance import Tolerance
from tests.export.students import photographs, source, target
from tests.export.test_parity import tampered


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_steps(source("yolo11p"), target("onnx-fp32"), tmp_path_factory.mktemp("parity") / "onnx-fp32")


def compared(artifact: Artifact, **tolerance: Any) -> dict[str, Any]:
    spec = target("onnx-fp32").model_copy(update={"tolerance": Tolerance(**tolerance)})
    return parity.require(source("yolo11p").module, artifact, photographs(2, 64, 96), spec)


def test_an_exact_artifact_finds_everything(artifact: Artifact) -> None:
    matched = compared(artifact, max_abs_score=0.0002)["matched"]
    assert matched["detections"] > 10
    assert (matched["share"], matched["invented"]) == (1.0, 0)
    assert matched["mean_score_change"] < 1e-5
    assert matched["mean_iou"] > 0.9999


def test_a_limit_that_is_not_given_does_not_apply(artifact: Artifact, tmp_path: Path) -> None:
    shifted = tampered(artifact, tmp_path, lambda bias: bias + 0.1)
    record = compared(shifted, min_matched=0.9)
    assert record["passed"] is True
    assert record["max_abs_score"] > 0.005
    assert record["tolerance"] == {"min_matched": 0.9}
    with pytest.raises(InputError, match=r"max_abs_score is 0\.0"):
        compared(shifted, max_abs_score=0.0002, min_matched=0.9)


def test_too_few_found_is_one_line_with_the_remedy(artifact: Artifact, tmp_path: Path) -> None:
    wrong = tampered(artifact, tmp_path, lambda bias: bias - 9)
    with pytest.raises(InputError) as caught:
        compared(wrong, min_matched=0.85)
    [problem] = caught.value.problems
    assert re.match(r"onnx-fp32: parity: only \d+\.\d% of torch's \d+ detections are found", problem)
    assert problem.endswith(
        "detections are found on 2 images, tolerance 85.0%; export in a higher precision, or lower "
        "tolerance.min_matched if the accuracy bears it"
    )


def test_a_target_needs_a_limit() -> None:
    with pytest.raises(ValidationError, match="needs a limit: max_abs_score, max_abs_box_px or min_matched"):
        Tolerance()
