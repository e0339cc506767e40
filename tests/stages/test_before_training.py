"""What is known before a training is told before it, by `edgekd check` and at the start of `edgekd run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import contract, foresee
from edgekd.export.contract import TargetSpec
from edgekd.export.targets import load_target
from edgekd.run_dir import RunDir
from edgekd.stages.before_training import check_ready
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.models import build_detectors
from tests.stages.tiny import edgekd, weights, write_recipe

ROOT = Path(__file__).parents[2]
ALONE: dict[str, Any] = {"teacher": None, "distill": None, "control": None, "gate": {}}
NOWHERE = "transport: ssh\nruntimes: [onnxruntime]\nssh: {host: 127.0.0.1, port: 9, user: nobody}\n"
Problems = Callable[..., list[str]]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Problems]:
    """What is said of the tiny recipe without a teacher, with `changes`; data and student are made once."""
    folder = tmp_path_factory.mktemp("ready")
    weights(folder / "student.safetensors", "yolo11p")
    first = bind_recipe(write_recipe(folder / "x.yaml", **ALONE))
    with RunDir.held(folder / "run", first.recipe.name, first.base, first.locked()) as run:
        context = Context(first, run)
        data, pair = context.data, context.pair

        def told(**changes: Any) -> list[str]:
            bound = bind_recipe(write_recipe(folder / "x.yaml", **{**ALONE, **changes}))
            fresh = Context(bound, run)
            fresh.data, fresh.pair = data, pair
            try:
                check_ready(fresh)
            except (InputError, EnvironmentFault) as error:
                return [problem.removeprefix(f"{bound.where}: ") for problem in error.problems]
            return []

        yield told


def int8(**options: Any) -> dict[str, Any]:
    return {"target": "onnx-int8", "options": {"onnx-int8": {"calibration_images": 8, **options}}}


def test_the_tiny_recipe_is_ready(problems: Problems) -> None:
    assert problems(gate={"max_ap_drop": 0.1, "max_p90_ms": {"onnx-fp32@local": 5.0}}) == []
    assert problems(export=[int8(ignore=["*/model.0/*"])]) == []


@pytest.mark.parametrize(
    ("gate", "line"),
    [
        ({"min_gain": 0.0}, "min_gain: there is no control to gain over; set control: true, or leave it out"),
        (
            {"min_images_per_second": {"onnx-fp32@local": 1.0}},
            "min_images_per_second: no load is measured; name one in profile.throughput, e.g. [{streams: 2}]",
        ),
        (
            {"max_p90_ms": {"tensorrt-fp32@local": 1.0}},
            "max_p90_ms.tensorrt-fp32@local: the device does not have the runtime of the target; name another of "
            "onnx-fp32@local, tensorrt-fp32@gpu",
        ),
    ],
)  # fmt: skip
def test_budgets_on_what_is_never_measured(problems: Problems, tmp_path: Path, gate: Any, line: str) -> None:
    gpu = tmp_path / "gpu.yaml"
    gpu.write_text("transport: local\nruntimes: [tensorrt]\n")
    assert problems(export=["onnx-fp32", "tensorrt-fp32"], devices=["local", str(gpu)], gate=gate) == [f"gate.{line}"]


def test_a_drop_of_nothing(problems: Problems) -> None:
    [line] = problems(devices=[], gate={"max_ap_drop": 0.1})
    assert line.startswith("gate.max_ap_drop: nothing is exported and measured; name targets in export and devices in")


def test_images_that_are_too_few_to_calibrate_on(problems: Problems) -> None:
    [line] = problems(export=["onnx-int8"])
    assert line.startswith("onnx-int8: options.onnx-int8: train: 128 images to calibrate on were asked for, and of 24")
    [line] = problems(export=["litert-int8"])
    assert line.startswith("litert-int8: options.litert: train: 128 images to calibrate on were asked for")


def test_layers_to_ignore_that_the_student_does_not_have(problems: Problems) -> None:
    [line] = problems(export=[int8(ignore=["*/model.0/*", "backbone.*"])])
    assert line.startswith("export: onnx-int8: options.onnx-int8.ignore: backbone.* names no layer of the student; ")


def test_an_operator_that_the_opset_lacks(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("Unsupported: einsum")

    monkeypatch.setattr("torch.onnx.export", refuse)
    [line] = problems(export=[{"target": "onnx-fp32", "opset": 13}])
    assert line.startswith("export: onnx-fp32: the student cannot be exported to ONNX at 64x64 with opset 13 (Unsupp")
    assert problems(export=["onnx-fp32"]) == [], "those that edgekd ships are known to export at its own opset"


def test_steps_that_this_machine_cannot_do(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    known = contract.step("openvino")
    monkeypatch.setitem(contract._REGISTRY, "openvino", replace(known, missing=lambda: "no such thing; get it"))
    assert problems(export=["openvino-fp32"]) == ["export: openvino-fp32: no such thing; get it"]


def test_converters_are_installed_before(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> None:
        raise EnvironmentFault("environment openvino: cannot be made")

    monkeypatch.setitem(contract._REGISTRY, "openvino", replace(contract.step("openvino"), prepare=unreachable))
    assert problems(export=["openvino-fp32"]) == ["environment openvino: cannot be made"]


def test_runtimes_that_a_device_lacks(problems: Problems, tmp_path: Path) -> None:
    gpu = tmp_path / "gpu.yaml"
    gpu.write_text("transport: local\nruntimes: [tensorrt, onnxruntime]\n")
    [line] = problems(export=["onnx-fp32", "tensorrt-fp32"], devices=[str(gpu)])
    assert line.startswith("devices: gpu: runtime tensorrt: ")
    assert line.endswith("or take it out of the device's `runtimes`")
    gpu.write_text("transport: local\nruntimes: [tensorrt, onnxruntime]\noptional: [tensorrt]\n")
    [line] = problems(export=["tensorrt-fp32"], devices=[str(gpu)])
    assert line.startswith(
        "devices: gpu: runtime tensorrt: only targets of tensorrt need it; for targets of tensorrt: "
    )
    gpu.write_text("transport: local\nruntimes: [tensorrt, onnxruntime]\n")
    assert problems(export=["onnx-fp32"], devices=[str(gpu)]) == [], "what no target needs is not asked for"


def test_a_run_stops_before_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights(tmp_path / "student.safetensors", "yolo11p")
    (tmp_path / "nowhere.yaml").write_text(NOWHERE)
    recipe = write_recipe(tmp_path / "x.yaml", **ALONE, export=["onnx-fp32"], devices=[str(tmp_path / "nowhere.yaml")])
    for command in (("check", recipe), ("run", recipe, "--out", "run")):
        ended = edgekd(*command)
        assert ended.code == 4
        last = ended.err.splitlines()[-1]
        assert last.startswith(f"edgekd: error: {recipe}: devices: device nowhere: ")
        assert last.endswith("'edgekd distill' trains without the devices")
    assert not (tmp_path / "run" / "student").exists()


def target(name: str, **changes: Any) -> TargetSpec:
    return load_target(str(ROOT / "export" / f"{name}.yaml"), changes, "x.yaml: export[0]")


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (lambda: target("ncnn-fp16", batch=4), "batch: is 4, but ncnn takes one image at a time; set batch: 1"),
        (lambda: target("litert-fp32", size="dynamic"), "size: is dynamic, but litert needs a fixed one; set [h"),
        (lambda: target("coreml", batch="dynamic"), "batch: is dynamic, but coreml takes one image at a time"),
        (lambda: target("executorch-xnnpack", batch=2), "batch: is 2, but executorch takes one image at a time"),
        (lambda: target("tensorrt-fp32", batch="dynamic"), "options.tensorrt.shapes: an engine of dynamic batch or"),
        (
            lambda: target("tensorrt-int8", options={"onnx-int8": {"scheme": "ort"}}),
            "options.onnx-int8.scheme: is ort, whose quantisers TensorRT does not take; use scheme: trt",
        ),
        (
            lambda: target("tensorrt-fp16", steps=["onnx", "tensorrt"], options={}),
            "precision: fp16, but what comes before the step 'tensorrt' is fp32",
        ),
        (
            lambda: target("tensorrt-fp32", options={"tensorrt": {"dla_core": 0}}),
            "options.tensorrt.dla_core: the accelerator runs fp16 graphs, not fp32",
        ),
        (
            lambda: target("onnx-fp32", input="uint8_nhwc", options={"input": {"channel_order": "BGR"}}),
            "options.input.channel_order: BGR, but the data has 1 channels, which are not RGB; remove it",
        ),
    ],
)  # fmt: skip
def test_what_shows_in_a_target_alone(spec: Callable[[], TargetSpec], line: str) -> None:
    made = spec()
    [problem] = foresee.problems(made, (64, 96), 1)
    assert problem.startswith(f"{made.name}: {line}")


@pytest.mark.parametrize("path", sorted((ROOT / "export").glob("*.yaml")), ids=lambda path: path.stem)
def test_nothing_is_foreseen_of_what_edgekd_ships(path: Path) -> None:
    assert foresee.problems(load_target(str(path), {}, path.stem), (64, 96), 3) == []


def test_a_target_that_cannot_be_made_is_refused_with_its_models(tmp_path: Path) -> None:
    weights(tmp_path / "student.safetensors", "yolo11p")
    wrong = {"target": "tensorrt-fp32", "batch": "dynamic"}
    bound = bind_recipe(write_recipe(tmp_path / "x.yaml", **ALONE, export=[wrong], devices=[]))
    with pytest.raises(InputError, match=r"x.yaml: export\[0\]: tensorrt-fp32: options.tensorrt.shapes: an engine of"):
        build_detectors(bound, tuple("0123456789"), 3)
