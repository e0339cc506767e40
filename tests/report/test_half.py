"""float16 on a CPU: a note beside the row, where it was computed in float32."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.report.half import on_cpu
from edgekd.report.render import render
from tests.report.make_run import make_run

NOTE = "float16 saves size here, not time: {} computes it in float32 on this CPU"


@pytest.mark.parametrize(
    ("runtime", "noted"),
    [
        ({"name": "onnxruntime", "providers": ["CPUExecutionProvider"]}, True),
        ({"name": "onnxruntime", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}, False),
        ({"name": "openvino", "providers": ["CPU"], "options": {"INFERENCE_PRECISION_HINT": "f32"}}, True),
        ({"name": "openvino", "providers": ["CPU"], "options": {"INFERENCE_PRECISION_HINT": "f16"}}, False),
        ({"name": "openvino", "providers": ["GPU"], "options": {"INFERENCE_PRECISION_HINT": "f32"}}, False),
        ({"name": "litert", "providers": ["XNNPACK"]}, True),
        ({"name": "ncnn", "providers": ["CPU"]}, False),  # float16 arithmetic on ARM
        ({"name": "tensorrt", "providers": ["GPU"]}, False),
        ({}, False),
    ],
)
def test_where_float16_is_computed_in_float32(runtime: dict[str, Any], noted: bool) -> None:
    profile = {"environment": {"runtime": runtime}}
    assert on_cpu("fp16", profile) == ([NOTE.format(runtime["name"])] if noted else [])
    assert on_cpu("fp32", profile) == []
    assert on_cpu("fp16", None) == []


def test_the_note_stands_beside_the_row(tmp_path: Path) -> None:
    """And leaves alone what the measurement itself noted."""
    run = make_run(tmp_path / "run")
    for target in ("onnx-fp16", "onnx-fp32"):
        path = run / f"profile/{target}@local.json"
        profile = json.loads(path.read_text())
        profile["environment"]["runtime"] = {"name": "onnxruntime", "providers": ["CPUExecutionProvider"]}
        path.write_text(json.dumps({**profile, "notes": ["never became steady"]}))
    render(run)
    rows = {row["target"]: row["notes"] for row in json.loads((run / "report.json").read_text())["artifacts"]}
    note = NOTE.format("onnxruntime")
    assert (rows["onnx-fp16"], rows["onnx-fp32"]) == (["never became steady", note], ["never became steady"])
    assert rows["openvino-fp16"] == []  # what it computes in is not known there
    assert f"onnx-fp16@local: never became steady; {note}." in (run / "report.html").read_text()
