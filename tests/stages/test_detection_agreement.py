"""The numeric check of an artifact on its device: by hand, and through a run whose artifact computes something else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgekd.devices import run_agent
from edgekd.stages.detection_agreement import refuse
from edgekd.types import Detections
from tests.stages.tiny import edgekd, lines, read, short_protocol

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)
NAME = "onnx-fp32@local"


def test_the_same_model_is_found_to_be_the_same(whole: Whole) -> None:
    """Every sure detection of the student, counted from its file, has its partner."""
    student = lines(whole.run / "validate/student@host.detections.jsonl")
    sure = sum(score >= 0.25 for line in student for score in line["scores"])
    assert sure > 0
    found = read(whole.run / f"validate/{NAME}.json")["same_model"]
    assert (found["detections"], found["least"], found["passed"]) == (sure, 0.9, True)
    assert found["share"] >= 0.98


def test_another_model_has_no_latency(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device on which every second image comes out empty."""
    predict = run_agent.predict

    def half_blind(*given: Any, **more: Any) -> run_agent.Prediction:
        found = predict(*given, **more)
        nothing = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
        seen = [nothing if index % 2 else one for index, one in enumerate(found.detections)]
        return run_agent.Prediction(seen, found.environment, found.load, found.seconds)

    monkeypatch.setattr(run_agent, "predict", half_blind)
    for path in run.glob(f"validate/{NAME}*"):
        path.unlink()
    with short_protocol():
        edgekd("validate", run)
        ended = edgekd("profile", run)
    student = lines(run / "validate/student@host.detections.jsonl")
    sure = [sum(score >= 0.25 for score in line["scores"]) for line in student]
    share, count = sum(sure[::2]) / sum(sure), sum(sure)
    reason = f"another model there: it finds {share:.1%} of the torch student's {count} detections, at least 90% are"
    summary = read(run / f"profile/{NAME}.json")
    assert (summary["valid"], len(summary["invalid_reasons"])) == (False, 1)
    assert summary["invalid_reasons"][0].startswith(reason)
    assert f"profile {NAME}: INVALID: {reason}" in ended.err
    assert edgekd("gate", run, "--set", "gate.max_ap_drop=1.0").code == 4
    edgekd("report", run)
    artifact = next(one for one in read(run / "report.json")["artifacts"] if one["target"] == "onnx-fp32")
    assert artifact["latency_ms"]["p50"] is None
    assert json.dumps(reason)[1:-1] in (run / "report.json").read_text()


@pytest.mark.parametrize(("reasons", "valid"), [((), True), (("a",), False), (("a", "b"), False)])
def test_refused_is_invalid(reasons: Sequence[str], valid: bool) -> None:
    sound, ill = {"valid": True, "invalid_reasons": []}, {"valid": False, "invalid_reasons": ["hot"]}
    refuse(reasons, sound, ill)
    assert sound == {"valid": valid, "invalid_reasons": list(reasons)}
    assert ill == {"valid": False, "invalid_reasons": ["hot", *reasons]}
