"""Every built-in feature with the shortest recipe that the documentation allows: what users run is the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.atomic import read_json
from edgekd.data.digits import CLASS_NAMES, generate
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.stages.listing import list_targets
from tests.stages.tiny import edgekd, short_protocol, weights

# The others are converted in environments that pip makes, see tests/export/test_mobile_for_real.py.
OWN = ("onnxruntime", "openvino", "tensorrt")
ON_QUERIES = ("clockdistill", "detrdistill", "dlim", "kd_detr", "qskd", "od_detr")
ON_DISTRIBUTIONS = ("query_ld",)  # of queries
COCO = {
    split: {"images": f"set/images/{split}", "annotations": f"set/annotations/{split}.json"}
    for split in ("train", "val")
}  # fmt: skip
STUDENT: dict[str, Any] = {"name": "shortest", "student": {"model": "yolo11p"}}


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump({**STUDENT, **content}), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


GUIDING = [name for name in distiller_names() if distiller_type(name).guides]  # one of them in a recipe


@pytest.mark.parametrize(
    "methods",
    [
        [name for name in distiller_names() if name not in (*ON_QUERIES, *ON_DISTRIBUTIONS, *GUIDING)],
        *(pytest.param([name], marks=pytest.mark.slow) for name in GUIDING),
    ],
    ids=["teaching", *GUIDING],
)
def test_every_method_by_its_name(methods: list[str], folder: Path) -> None:
    weights(folder / "teacher.safetensors", "yolo11n")
    recipe = write(
        folder / "x.yaml", data={"format": "digits", "train": 16, "val": 8, "test": 8}, distill=methods,
        teacher={"model": "yolo11n", "weights": "teacher.safetensors"}, train={"epochs": 1, "imgsz": 96, "batch": 4},
    )  # fmt: skip
    ended = edgekd("check", recipe, "--dry-step", "--json")
    assert ended.code == 0, ended.err
    found = {term["term"].split(".")[0] for term in ended.json["dry_step"]["terms"]}
    assert found - set(GUIDING) == {"detection", *methods} - set(GUIDING)


def test_every_method_on_queries_by_its_name(folder: Path) -> None:
    weights(folder / "teacher.safetensors", "rtdetr-n")
    ownself = {"method": "od_detr", "teacher": "ema"}  # the one that has no other teacher
    recipe = write(
        folder / "x.yaml", data={"format": "digits", "train": 16, "val": 8, "test": 8}, student={"model": "rtdetr-p"},
        distill=[*ON_QUERIES[:-1], ownself], train={"epochs": 1, "imgsz": 96, "batch": 4},
        teacher={"model": "rtdetr-n", "weights": "teacher.safetensors"},
    )  # fmt: skip
    ended = edgekd("check", recipe, "--dry-step", "--json")
    assert ended.code == 0, ended.err
    assert {term["term"].split(".")[0] for term in ended.json["dry_step"]["terms"]} == {"detection", *ON_QUERIES}


def test_methods_on_box_distributions_of_queries_by_their_names(folder: Path) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    from tests.detectors.transformers import folders

    folders.write(folders.network("deimv2-p", CLASS_NAMES), folder / "teacher")
    recipe = write(
        folder / "x.yaml", data={"format": "digits", "train": 8, "val": 4, "test": 4}, student={"model": "dfine-p"},
        distill=[*ON_DISTRIBUTIONS], train={"epochs": 1, "imgsz": 96, "batch": 4}, teacher={"weights": "teacher"},
    )  # fmt: skip
    ended = edgekd("check", recipe, "--dry-step", "--json")
    assert ended.code == 0, ended.err
    assert {term["term"].split(".")[0] for term in ended.json["dry_step"]["terms"]} == {"detection", *ON_DISTRIBUTIONS}


@pytest.mark.parametrize(
    ("data", "train"),
    [
        pytest.param({"format": "digits"}, 800, marks=pytest.mark.slow),  # draws 1,600 images
        pytest.param({"format": "yolo", "path": "set/data.yaml"}, 8, marks=pytest.mark.slow),
        ({"format": "coco", **COCO}, 8),
    ],
)
def test_every_data_format(data: dict[str, Any], train: int, folder: Path) -> None:
    generate(folder / "set", imgsz=64, train=8, val=4, test=4, seed=0)
    ended = edgekd("check", write(folder / "x.yaml", data=data), "--json")
    assert ended.code == 0, ended.err
    assert ended.json["data"]["train"] == train


@pytest.mark.slow
@pytest.mark.parametrize("quantize", [None, {"mode": "qat"}])
def test_every_target_that_can_be_made_here(folder: Path, quantize: dict[str, Any] | None) -> None:
    targets = [row["target"] for row in list_targets() if not row["cannot_make"] and row["runtime"] in OWN]
    recipe = write(
        folder / "x.yaml", data={"format": "digits"}, train={"epochs": 3, "imgsz": 96}, export=targets,
        devices=["local"], profile={"protocol": "quick", "throughput": [{}]}, gate={"min_ap": 0.0},
        **({"quantize": quantize} if quantize else {}),
    )  # fmt: skip
    measured = [row["target"] for row in list_targets() if row["target"] in targets and row["runtime"] != "tensorrt"]
    without_a_device = edgekd("check", recipe)
    assert without_a_device.code == 2
    assert "none of local has the runtime tensorrt" in without_a_device.err
    write(recipe, **{**yaml.safe_load(recipe.read_text(encoding="utf-8")), "export": measured})
    with short_protocol():
        ended = edgekd("run", recipe, "--out", "run")
    assert ended.code == 0, ended.err
    for name in measured:
        assert read_json(folder / "run" / "validate" / f"{name}@local.json")["ap"] >= 0
        [load] = read_json(folder / "run" / "profile" / f"{name}@local.json")["throughput"]
        assert load["images_per_second"] > 0
    for name in ("onnx-int8", "openvino-int8"):
        assert read_json(folder / "run" / "export" / name / "quantization.json")["calibration_images"] == 128
