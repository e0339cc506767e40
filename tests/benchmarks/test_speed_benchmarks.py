"""The speed benchmarks run, and print one JSON object; what they measure on a busy machine is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_train_step() -> None:
    small = ["--student", "yolo11p", "--teacher", "yolo11p", "--imgsz", "64", "--batch", "2", "--rounds", "3"]
    found = run("train_step.py", *small)
    goals = {name: value["goal_at_most"] for name, value in found["ratios"].items() if value["goal_at_most"]}
    assert goals == {
        "score_l2 / distill_model": 0.90, "pkd / minimum": 1.10,
        "head_openvino / head_minimum": 0.75, "head_openvino / distill_model": 0.80,
    }  # fmt: skip
    assert {"score_l2_openvino / distill_model", "head_openvino / head_unfolded"} <= set(found["ratios"])
    assert found["median_ms"]["plain"] < found["median_ms"]["minimum"]


@pytest.mark.slow
def test_train_step_of_some_variants() -> None:
    small = ["--student", "yolo11p", "--teacher", "yolo11p", "--imgsz", "64", "--batch", "2", "--rounds", "2"]
    found = run("train_step.py", *small, "--amp", "--only", "plain", "head_openvino", "head_minimum")
    assert set(found["ratios"]) == {"head_openvino / head_minimum"}
    assert set(found["median_ms"]) == {"plain", "head_openvino", "head_minimum"}


@pytest.mark.slow
def test_train_step_of_methods() -> None:
    small = ["--student", "yolo11p", "--teacher", "yolo11p", "--imgsz", "64", "--batch", "2", "--rounds", "3"]
    found = run("train_step.py", *small, "--methods", "mgd:width=8", "pkd", "score_l2")
    assert set(found["median_ms"]) == {
        "plain", "minimum of mgd:width=8", "mgd:width=8", "pkd", "minimum of score_l2", "score_l2",
    }  # fmt: skip
    goals = {name: value["goal_at_most"] for name, value in found["extra"].items()}
    assert goals == {"mgd:width=8": 0.25, "pkd": 0.10, "score_l2": None}
    assert not found["ratios"]


@pytest.mark.slow
def test_validate_throughput() -> None:
    found = run("validate_throughput.py", "--imgsz", "96", "--images", "20", "--rounds", "1")["results"]["96 px"]
    assert found["ap"]["edgekd"] == pytest.approx(found["ap"]["ultralytics"], abs=0.02)
    assert found["images_per_second"]["edgekd"] > 0


@pytest.mark.slow
def test_profile_agreement() -> None:
    found = run("profile_agreement.py", "--imgsz", "96", "--seconds", "1", "--rounds", "1")
    assert 0.2 < found["agent / benchmark_app"]["median"] < 5


@pytest.mark.slow
def test_profile_agreement_of_onnxruntime() -> None:
    found = run("profile_agreement.py", "--runtime", "onnxruntime", "--imgsz", "96", "--seconds", "1", "--rounds", "1")
    assert 0.2 < found["agent / perf loop"]["median"] < 5


def test_ap_engines() -> None:
    found = run("ap_engines.py", "--images", "20", "--rounds", "1")
    assert 0.01 < found["ap"] < 0.99
    assert found["figures_equal"]["pycocotools"] is True


def test_bootstrap() -> None:
    found = run("bootstrap.py", "--images", "40", "--classes", "3", "--replicates", "100")
    assert abs(found["ap_minus_evaluated"]) < 1e-6
    assert found["difference"][0] < found["difference"][1] < found["difference"][2]
    assert found["difference"][1] < 0  # the second is the less exact one


@pytest.mark.slow
def test_postprocess() -> None:
    found = run("postprocess.py", "--imgsz", "96", "--images", "8", "--rounds", "2", "--passes", "3")["results"]
    for conf in ("0.25", "0.001", "0.001, random"):
        assert found[f"nms, conf {conf}"]["equal"]["ultralytics"] is True
    assert found["nms, conf 0.001"]["candidates_per_image"] > found["nms, conf 0.25"]["candidates_per_image"]
    assert set(found["folded"]) == {"onnx-fp32", "openvino-fp32"}
    assert found["folded"]["onnx-fp32"]["whole_over_its_inference_ms"] > 0


@pytest.mark.slow
def test_export_time() -> None:
    found = run("export_time.py", "--model", "yolo11p", "--imgsz", "64", "--rounds", "1")["results"]
    assert found["edgekd / ultralytics"]["goal_at_most"] == 1.2
    assert 0.3 < found["bytes"]["edgekd"] / found["bytes"]["ultralytics"] < 3


@pytest.mark.slow
def test_shared_machine() -> None:
    small = ["--imgsz", "64", "--batch", "2", "--rounds", "1", "--blocks", "1", "--block-seconds", "0.1"]
    found = run("shared_machine.py", *small, "--only", "as it is", "edgekd", "--set", "GOMP_SPINCOUNT=77")
    assert found["settings"]["variables"] == {
        "as it is": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}, "GOMP_SPINCOUNT=77": {"GOMP_SPINCOUNT": "77"},
        "edgekd": {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "20us", "EDGEKD_OPENMP": "GOMP_SPINCOUNT,KMP_BLOCKTIME"},
    }  # fmt: skip
    for result in found["results"].values():
        assert set(result["median_ms"]) == {"alone", "busy loop", "training"}
        assert min(result["least_ms"].values()) > 0
        assert set(result["over alone"]) == {"busy loop", "training"}
    assert found["results"]["as it is"]["alone / as it is"]["median"] == 1
