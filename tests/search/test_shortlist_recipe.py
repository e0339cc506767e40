"""`edgekd shortlist`: what is refused before anything is measured, and the recipe of the one that is picked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekd.detectors import families
from edgekd.recipe.yaml_text import read_mapping
from tests.search.bench import Bench, recipe, run
from tests.stages.tiny import edgekd


@pytest.mark.parametrize(
    ("changes", "arguments", "code", "problem"),
    [
        ({"models": ["yolo99n"]}, (), 2, "models[0]: unknown model 'yolo99n'"),
        ({"models": ["retinanet_resnet50_fpn"]}, (), 2, "can teach, but not be trained; name a student"),
        ({"sizes": [100]}, (), 2, "sizes: 100 is no multiple of 32, the largest stride of yolo11p; use 96 or 128"),
        ({"targets": ["onnx-fp8"]}, (), 2, "targets[0]: unknown export target 'onnx-fp8'"),
        ({"targets": ["tensorrt-fp16"]}, (), 2, "local has no runtime tensorrt for tensorrt-fp16"),
        (
            {"precisions": ["int8"]},
            (),
            2,
            "no target is left to compare on local; name some in search.students.targets",
        ),
        ({}, ("--pick", "x"), 2, "--pick and --out belong together"),
        ({}, ("--pick", "yolo12x-640/onnx-fp32", "--out", "new.yaml"), 2, "--pick: unknown candidate"),
        ({}, ("--device", "nowhere"), 2, "unknown device 'nowhere'"),
    ],
)
def test_bad_input_is_one_line(
    bench: Bench, changes: dict[str, Any], arguments: tuple[str, ...], code: int, problem: str
) -> None:
    recipe(changes)
    ended = run(*arguments)
    assert ended.code == code
    assert problem in " ".join(ended.problems)
    assert bench.names == []


def test_a_family_that_is_not_installed_is_named_with_its_remedy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(families.family("rtmdet")), "missing", lambda self: "is not there; install it")
    recipe({"models": ["rtmdet-tiny"]})
    ended = run()
    assert ended.code == 4
    assert ended.problems == [
        "street.yaml: search.students.models[0]: rtmdet-tiny: family rtmdet: is not there; install it"
    ]


def test_a_budget_on_nothing_is_refused(bench: Bench) -> None:
    recipe({"models": ["yolo11p"]}, gate={"max_p90_ms": {"onnx-fp32@loca": 5.0}})
    ended = run()
    assert (ended.code, bench.names) == (2, [])
    assert ended.problems == [
        "street.yaml: gate.max_p90_ms.onnx-fp32@loca: unknown device 'loca' (known: local; did you mean 'local'?)"
    ]


def test_several_devices_have_to_be_told_apart(bench: Bench) -> None:
    recipe(devices=["local", "raspberry-pi-5"])
    ended = run()
    assert ended.code == 2
    assert ended.problems == [
        "--device: street.yaml has several devices (local, raspberry-pi-5); say which one with --device NAME"
    ]


def test_the_recipe_of_the_one_that_is_picked(bench: Bench) -> None:
    recipe(gate={"max_p90_ms": {"onnx-fp32@local": 60.0}})
    run()
    text = "# Streets.\n" + Path("street.yaml").read_text().replace("imgsz: 640", "imgsz: 640  # px")
    Path("street.yaml").write_text(text)
    before = len(bench.names)
    ended = run("--pick", "yolo11s-320/onnx-fp32", "--out", "new/picked.yaml")
    assert (ended.code, len(bench.names)) == (0, before)
    assert ended.out == "recipe: new/picked.yaml\n"
    expected = text.replace("imgsz: 640 ", "imgsz: 320 ").replace("model: yolo11n\n", "model: yolo11s\n")
    assert Path("new/picked.yaml").read_text() == expected.replace("path: data", "path: ../data")
    assert edgekd("shortlist", "new/picked.yaml", "--most", "1", "--folder", "runs/shortlist-street").code == 0
    again = run("--pick", "yolo11s-320/onnx-fp32", "--out", "new/picked.yaml")
    assert again.problems == ["--out new/picked.yaml: exists; choose another file, or remove it first"]


def test_what_does_not_go_with_the_new_student_is_left_out_and_said(bench: Bench) -> None:
    Path("w").mkdir()
    Path("w/yolo26n.pt").write_bytes(b"")
    student = {"model": "yolo11n", "weights": "w/yolo26n.pt", "head": "one2one"}
    recipe({"targets": ["openvino-fp32"]}, student=student, devices=["local"])
    run("--most", "1")
    ended = run("--pick", "yolov8s-640/openvino-fp32", "--out", "picked.yaml", "--device", "local")
    assert ended.out.splitlines() == [
        "note: student.weights (w/yolo26n.pt) is left out: it is of another model",
        "note: student.head (one2one) is left out: yolov8s has no such branch",
        "note: yolov8s-640/openvino-fp32 has no valid measurement on local",
        "recipe: picked.yaml",
    ]
    picked = read_mapping(Path("picked.yaml"))
    assert picked["student"] == {"model": "yolov8s"}
    assert picked["export"] == ["onnx-fp32", "openvino-fp32"]


def test_paths_hold_from_the_new_recipes_folder(bench: Bench) -> None:
    Path("w").mkdir()
    Path("w/t.safetensors").write_bytes(b"")
    recipe(teacher={"model": "yolo11x", "weights": "w/t.safetensors"})
    run("--most", "1")
    assert run("--pick", "yolo11s-640/onnx-fp32", "--out", "deep/er/picked.yaml").code == 0
    assert read_mapping(Path("deep/er/picked.yaml"))["teacher"]["weights"] == "../../w/t.safetensors"
