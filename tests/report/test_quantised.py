"""The report's section on quantisation: before and after, and the layers that suffered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekd.report.quantised import SHOWN_LAYERS, quantised
from edgekd.report.render import render
from tests.report.make_run import make_run
from tests.report.test_render import Page

LAYERS = 20


def record(float_layers: int) -> dict[str, Any]:
    rows = [
        {"layer": f"/network/{index}/Conv", "noise": 0.01 / 2**index, "sqnr_db": 20 + 3.01 * index,
         "float": "max_drop" if index < float_layers else None}
        for index in range(LAYERS - 1)
    ]  # fmt: skip
    rows.append({"layer": "/network/last/Conv", "noise": None, "sqnr_db": None, "float": "ignore"})
    return {
        "schema": "edgekd.quantization/1", "step": "onnx-int8", "settings": {}, "calibration_images": 128,
        "layers": rows, "float_layers": float_layers + 1, "decoding": ["/Sub", "/Add"],
        "ap_float": 0.61, "ap": 0.606, "ap_drop": 0.004, "trials": [{"float_layers": float_layers, "ap": 0.606}],
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = make_run(tmp_path / "quickstart")
    (made / "export/onnx-fp16/quantization.json").write_text(json.dumps(record(14)))
    accuracy = json.loads((made / "validate/onnx-fp16@local.json").read_text())
    accuracy["operating_point"] |= {"precision": 0.805, "recall": 0.750}
    (made / "validate/onnx-fp16@local.json").write_text(json.dumps(accuracy))
    return made


def test_before_and_after(run: Path) -> None:
    [entry] = quantised(render(run))
    [row] = entry["rows"]
    assert row == {"device": "local", "ap": (0.4973, 0.4971), "precision": (0.812, 0.805), "recall": (0.744, 0.75)}
    assert (entry["target"], entry["layers"]) == ("onnx-fp16", LAYERS)
    assert entry["sources"] == ["export/onnx-fp16/quantization.json", "validate/onnx-fp16@local.json"]


def test_the_worst_layers_are_shown_and_all_that_stayed_float(run: Path) -> None:
    [entry] = quantised(render(run))
    shown = entry["shown"]
    assert SHOWN_LAYERS < 14
    assert [layer["layer"] for layer in shown] == [f"/network/{index}/Conv" for index in range(14)] + [
        "/network/last/Conv"
    ]
    assert [layer["width"] for layer in shown[:3]] == [1, 0.5, 0.25]
    assert {layer["state"] for layer in shown[:14]} == {"float, for max_drop"}
    assert shown[-1]["state"] == "float, as the target says"


def test_the_page_says_it(run: Path) -> None:
    render(run)
    shown = Page((run / "report.html").read_text(encoding="utf-8")).texts
    assert "Quantisation" in shown
    assert "15 of 20" in shown
    assert "\u22120.007" in shown  # precision
    assert "+0.006" in shown  # recall


def test_a_run_without_quantised_targets_has_no_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "quickstart")
    assert quantised(render(run)) == []
    assert "Quantisation" not in Page((run / "report.html").read_text(encoding="utf-8")).texts
