"""Reading targets, and running their steps as a whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import contract, targets
from edgekd.export.contract import Source, TargetSpec
from tests.export.students import ROOT, target

FILES = sorted((ROOT / "export").glob("*.yaml"))


def write(folder: Path, **changes: Any) -> str:
    import yaml

    content = yaml.safe_load((ROOT / "export" / "onnx-fp32.yaml").read_text())
    content.update(changes)
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def problems(name: str, overrides: dict[str, Any] | None = None) -> list[str]:
    with pytest.raises(InputError) as caught:
        targets.load_target(name, overrides or {}, "recipes/x.yaml: export[1]")
    return list(caught.value.problems)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_built_in_targets_load_and_are_named_after_their_file(path: Path) -> None:
    spec = target(path.stem)
    runtime = {"onnxruntime": "onnx"}.get(spec.runtime, spec.runtime)
    only = {"executorch": "executorch-xnnpack", "coreml": "coreml"}  # of these there is one each
    assert spec.name == path.stem == only.get(runtime, f"{runtime}-{spec.precision}")


def test_overrides_are_merged_into_nested_keys() -> None:
    spec = target("onnx-fp16", name="mine", batch="dynamic", size=[384, 640], tolerance={"max_abs_score": 0.5})
    assert (spec.name, spec.batch, spec.size) == ("mine", "dynamic", (384, 640))
    assert (spec.tolerance.max_abs_score, spec.tolerance.max_abs_box_px) == (0.5, 0.5)


def test_all_problems_of_a_file_at_once(tmp_path: Path) -> None:
    name = write(tmp_path, batch=0, size=[640], opsett=17, runtime="tflite")
    assert problems(name) == [
        f"{name}: runtime: input should be 'onnxruntime', 'openvino', 'tensorrt', 'ncnn', 'litert', 'executorch' or "
        "'coreml', got 'tflite'",
        f"{name}: batch: must be a whole number of 1 to 4096, or 'dynamic', got 0",
        f"{name}: size: must be [height, width] in pixels up to 8192, 'dynamic' or null (the training size)",
        f"{name}: opsett: unknown key 'opsett' (known: batch, input, layout, name, nms, opset, options, parity_images, "
        "precision, runtime, simplify, size, steps, tolerance; did you mean 'opset'?)",
    ]


def test_a_wrong_override_names_the_recipe() -> None:
    assert problems("onnx-fp32", {"tolerance": {"max_abs_scor": 1.0}}) == [
        "recipes/x.yaml: export[1].tolerance.max_abs_scor: unknown key 'max_abs_scor' (known: max_abs_box_px, "
        "max_abs_score, min_matched; did you mean 'max_abs_score'?)"
    ]


def test_an_unknown_target_lists_the_known() -> None:
    (problem,) = problems("onnx-fp23")
    assert "unknown export target 'onnx-fp23' (known: " in problem
    assert "did you mean 'onnx-fp" in problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"steps": ["onnx", "onx-fp16"]}, "steps[1]: unknown export step 'onx-fp16' (known: {known}; "
         "did you mean 'onnx-fp16'?)"),
        ({"steps": ["openvino"]}, "steps[0]: 'openvino' starts from onnx, but what comes before it gives torch"),
        ({"steps": ["onnx", "openvino"]},
         "runtime: is onnxruntime, but the last step 'openvino' makes artifacts for openvino"),
        ({"precision": "fp16"}, "precision: is fp16, but the last step 'onnx' makes fp32"),
    ],
)  # fmt: skip
def test_steps_must_make_what_the_target_promises(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    name = write(tmp_path, **changes)
    known = ", ".join(sorted(contract._REGISTRY))
    assert problems(name) == [f"{name}: {problem.format(known=known)}"]


def test_size_must_fit_the_stride() -> None:
    spec = target("onnx-fp32", size=[100, 96])
    with pytest.raises(InputError) as caught:
        targets.check_size(spec, (64, 64), 32)
    assert str(caught.value) == (
        "onnx-fp32: size: [100, 96] (height, width) is not a multiple of 32, the largest stride of the student; "
        "use [128, 96]"
    )
    assert targets.check_size(target("onnx-fp32", size="dynamic"), (64, 96), 32) == (64, 96)


def tiny_source(module: Any) -> Source:
    return Source(module.eval(), "dense", ("bolt",), 3, (32, 32), 32, "0" * 64)


def test_an_operator_that_cannot_be_exported_leaves_nothing_behind(tmp_path: Path) -> None:
    import torch

    class Unsupported(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            rows = images.flatten(2).transpose(1, 2)
            return torch.special.bessel_j0(rows), rows

    folder = tmp_path / "export" / "onnx-fp32"
    folder.mkdir(parents=True)
    (folder / "edgekd.json").write_text("old")
    with pytest.raises(InputError) as caught:
        targets.run_steps(tiny_source(Unsupported()), target("onnx-fp32"), folder)
    (problem,) = caught.value.problems
    assert problem.startswith("onnx-fp32: the student cannot be exported to ONNX at 32x32 with opset 17 (")
    assert "special_bessel_j0" in problem
    assert problem.endswith("; raise 'opset' (at most 20), or train a student without that operator")
    assert [path.name for path in (tmp_path / "export").iterdir()] == ["onnx-fp32"]
    assert (folder / "edgekd.json").read_text() == "old"


def test_a_missing_package_is_a_fault_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino._x")

    monkeypatch.setitem(contract._REGISTRY, "onnx", replace(contract.step("onnx"), export=export))
    with pytest.raises(EnvironmentFault) as caught:
        targets.run_steps(tiny_source(Unused()), target("onnx-fp32"), tmp_path / "out")
    assert str(caught.value) == (
        "onnx-fp32: step 'onnx' needs the package openvino (No module named 'openvino'); "
        "install it: pip install openvino"
    )
    assert list(tmp_path.iterdir()) == []


def test_the_result_replaces_the_old_folder_and_what_a_killed_process_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(source: Any, spec: TargetSpec, folder: Path) -> Any:
        (folder / "model.onnx").write_bytes(b"new")
        return contract.Artifact(folder, None)  # type: ignore[arg-type]

    monkeypatch.setitem(contract._REGISTRY, "onnx", replace(contract.step("onnx"), export=export))
    folder = tmp_path / "onnx-fp32"
    folder.mkdir()
    (folder / "stale").write_text("old")
    (tmp_path / ".onnx-fp32.1.tmp").mkdir()
    artifact = targets.run_steps(tiny_source(Unused()), target("onnx-fp32"), folder)
    assert artifact.folder == folder
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["onnx-fp32"]


def test_a_second_step_of_one_name_is_refused() -> None:
    contract.step("onnx")
    with pytest.raises(ValueError, match="exporter 'onnx' is registered twice"):
        contract.register("onnx", source="torch", target="onnx", runtime="onnxruntime", precisions=())(lambda *_: None)  # type: ignore[arg-type, return-value]


class Unused:
    """A module that is never run."""

    def eval(self) -> Unused:
        return self
