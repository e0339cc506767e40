"""Students that are no YOLO go the whole road: every runtime of a CPU, 8 bits, NMS in the graph, a bundle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.stages.tiny import edgekd, read, short_protocol, weights, write_recipe

FLOAT = ("onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16")
INT8 = ("onnx-int8", "openvino-int8")
ROOM = {"max_abs_score": 0.05, "max_abs_box_px": 2.0}  # of an untrained network in fp16


def exports(model: str) -> list[dict[str, Any]]:
    small = {"calibration_images": 8, "max_drop": None, "sensitivity_images": 4}
    made: list[dict[str, Any]] = [{"target": name, "tolerance": ROOM} for name in FLOAT]
    made += [{"target": name, "options": {name: small}, "tolerance": {"min_matched": 0.01}} for name in INT8]
    if model == "rtmdet-p":  # the others need none
        made.append({"target": "onnx-fp32", "name": "with-nms", "nms": "in_graph", "tolerance": ROOM})
    return made


@pytest.mark.slow
@pytest.mark.parametrize("model", ["rtmdet-p", "rtdetr-p", "dfine-p"])
def test_the_whole_road(model: str, tmp_path: Path) -> None:
    if model == "dfine-p":
        pytest.importorskip("transformers", reason="the extra hf is not installed")
    weights(tmp_path / "teacher.safetensors", "yolo11n")
    path = write_recipe(
        tmp_path / "r.yaml", student={"model": model}, distill=["pkd"], control=None, export=exports(model), gate=None
    )
    run = tmp_path / "run"
    with short_protocol():
        ended = edgekd("run", path, "--out", run, "--json")
    assert ended.code == 0, ended.err
    names = [one.get("name", one["target"]) for one in exports(model)]
    for name in names:
        made, validated = read(run / "export" / name / "edgekd.json"), read(run / "validate" / f"{name}@local.json")
        assert made["decode"] == ("dense" if model == "rtmdet-p" and name != "with-nms" else "end2end")
        assert validated["images"] == 16
        assert read(run / "profile" / f"{name}@local.json")["latency_ms"]["end_to_end"]["p50"] > 0
    for name in INT8:
        assert read(run / "export" / name / "edgekd.json")["precision"] == "int8"
    bundled = edgekd("bundle", run, "--target", "openvino-int8", "--out", tmp_path / "b.zip", "--json")
    assert bundled.code == 0, bundled.err
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert any(one.endswith("model.xml") for one in archive.namelist())
