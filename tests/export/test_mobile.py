"""Steps that leave ONNX for a converter: what they ask of it, and what they make of its answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgekd.atomic import read_json
from edgekd.errors import InputError
from edgekd.export import (
    coreml_from_onnx,
    executorch_from_onnx,
    litert_from_onnx,
    mobile,
    ncnn_from_onnx,
    parity,
)
from edgekd.export.artifacts import open_artifact, seal
from edgekd.export.contract import Artifact, Job, Material, Sidecar, step
from edgekd.export.converters.to_coreml import leads_to_layer
from edgekd.export.converters.to_litert import upstream
from edgekd.export.converters.to_ncnn import renamed, unsupported
from edgekd.export.environment import Requirements
from tests.export.students import photographs, target

FILES = {
    "to_ncnn.py": ("model.param", "model.bin"),
    "to_litert.py": ("model.tflite",),
    "to_executorch.py": ("model.pte",),
    "to_coreml.py": ("model.mlpackage.zip",),
}


@pytest.fixture
def hub(tmp_path: Path) -> Artifact:
    """An ONNX artifact that no one opens."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"onnx")
    sidecar = Sidecar(
        target="x", runtime="onnxruntime", precision="fp32", files={}, class_names=("bolt",), decode="dense",
        input_shape=(1, 3, 64, 96), size_px=(64, 96), parent_sha256="0" * 64, tools={"onnx": "1"},
    )  # fmt: skip
    return seal(folder, ("model.onnx",), sidecar)


class Converter:
    """Stands in for `convert`: notes what it is asked, and leaves the files that the script would."""

    def __init__(self, **answer: Any) -> None:
        self.answer = {"tools": {"converter": "7"}, **answer}
        self.asked: dict[str, Any] = {}
        self.images: Any = None

    def __call__(
        self, needs: Requirements, script: str, job: dict[str, Any], folder: Path, timeout_s: float
    ) -> dict[str, Any]:
        self.asked = {**job, "script": script, "needs": needs, "timeout_s": timeout_s}
        if "images" in job:
            self.images = np.load(job["images"])
        for name in FILES[script]:
            (folder / name).write_text(name)
        return self.answer


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> Converter:
    made = Converter()
    monkeypatch.setattr(mobile, "convert", made)
    return made


def export(name: str, hub: Artifact, folder: Path, material: Material | None = None, **overrides: Any) -> Artifact:
    """Run the last step of a target on an ONNX artifact."""
    spec = target(name, **overrides)
    last = step(spec.steps[-1])
    options = last.options_type.model_validate(spec.options.get(last.name, {}))
    folder.mkdir()
    return last.export(hub, Job(spec, options, material), folder)


def material(drop: float = 0.0) -> Material:
    return Material(
        lambda count, size: photographs(count, *size), accuracy=lambda _: 0.5 - drop, student_accuracy=lambda: 0.5
    )


@pytest.mark.parametrize(
    ("name", "files", "layout"),
    [
        ("ncnn-fp16", ["model.param", "model.bin", "metadata.yaml"], "NCHW"),
        ("litert-fp32", ["model.tflite"], "NHWC"),
        ("litert-fp16", ["model.tflite"], "NHWC"),
        ("coreml", ["model.mlpackage.zip"], "NCHW"),
    ],
)
def test_artifacts_say_how_they_are_run(
    hub: Artifact, tmp_path: Path, converter: Converter, name: str, files: list[str], layout: str
) -> None:
    artifact = open_artifact(export(name, hub, tmp_path / name).folder)
    spec = target(name)
    assert list(artifact.sidecar.files) == files
    assert (artifact.sidecar.target, artifact.sidecar.runtime) == (name, spec.runtime)
    assert (artifact.sidecar.precision, artifact.sidecar.layout) == (spec.precision, layout)
    assert artifact.sidecar.tools == {"onnx": "1", "converter": "7"}
    assert artifact.sidecar.input_shape == (1, 3, 64, 96)
    assert (converter.asked["target"], converter.asked["onnx"]) == (name, str(hub.model_path))
    assert converter.asked["timeout_s"] == 1800


def test_ncnn_is_told_shape_names_and_precision(hub: Artifact, tmp_path: Path, converter: Converter) -> None:
    export("ncnn-fp16", hub, tmp_path / "half", options={"ncnn": {"timeout_s": 5}})
    asked = converter.asked
    assert (asked["shape"], asked["half"], asked["timeout_s"]) == ([1, 3, 64, 96], True, 5)
    assert (asked["input"], asked["outputs"]) == ("images", ["boxes", "scores"])
    assert (asked["needs"].packages, asked["needs"].dependencies) == (("pnnx==20261020",), False)
    export("ncnn-fp16", hub, tmp_path / "single", precision="fp32")
    assert not converter.asked["half"]


class TestLiteRtInt8:
    def test_calibrates_on_pixels(self, hub: Artifact, tmp_path: Path, converter: Converter) -> None:
        options = {"litert": {"calibration_images": 3, "max_drop": None}}
        artifact = export("litert-int8", hub, tmp_path / "out", material(), options=options)
        np.testing.assert_array_equal(converter.images, photographs(3, 64, 96))
        assert (converter.asked["scale"], converter.asked["precision"]) == (255.0, "int8")
        assert sorted(path.name for path in artifact.folder.iterdir()) == ["edgekd.json", "model.tflite"]

    def test_needs_images(self, hub: Artifact, tmp_path: Path, converter: Converter) -> None:
        with pytest.raises(InputError, match="litert-int8: needs images of the train split"):
            export("litert-int8", hub, tmp_path / "out")

    def test_that_loses_too_much_is_refused(
        self, hub: Artifact, tmp_path: Path, converter: Converter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(litert_from_onnx, "unusable", lambda _: None)
        export("litert-int8", hub, tmp_path / "fine", material(drop=0.0049))
        with pytest.raises(InputError) as caught:
            export("litert-int8", hub, tmp_path / "out", material(drop=0.02))
        assert str(caught.value) == (
            "litert-int8: options.litert.max_drop: 8 bits cost 0.0200 AP on train images, allowed are 0.005; "
            "train the student for 8 bits (in the recipe, quantize: {mode: qat}), use litert-fp16, or raise max_drop"
        )

    def test_is_not_measured_where_it_cannot_run(
        self, hub: Artifact, tmp_path: Path, converter: Converter, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        monkeypatch.setattr(litert_from_onnx, "unusable", lambda _: "litert is not usable")
        export("litert-int8", hub, tmp_path / "out", material(drop=0.5))
        assert "litert-int8: max_drop is not checked: litert is not usable" in capsys.readouterr().err


class TestExecuTorch:
    def test_runs_the_program_on_one_image(
        self, hub: Artifact, tmp_path: Path, converter: Converter, capsys: pytest.CaptureFixture[str]
    ) -> None:
        converter.answer["max_abs"] = {"boxes": 1e-4, "scores": 2e-7}
        export("executorch-xnnpack", hub, tmp_path / "out", material())
        expected = photographs(1, 64, 96).transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_allclose(converter.images, expected, atol=1e-7)
        assert "differs from the ONNX by 1.0e-04 (boxes), 2.0e-07 (scores) on one image" in capsys.readouterr().err

    @pytest.mark.parametrize("found", [0.3, float("nan")])
    def test_refuses_what_differs(self, hub: Artifact, tmp_path: Path, converter: Converter, found: float) -> None:
        converter.answer["max_abs"] = {"boxes": found, "scores": 0.0}
        with pytest.raises(InputError) as caught:
            export("executorch-xnnpack", hub, tmp_path / "out")
        assert str(caught.value) == (
            f"executorch-xnnpack: boxes differ by {found:.3g} from the ONNX, tolerance 0.02; choose another target, or "
            "raise the tolerance if the accuracy bears it"
        )


@pytest.mark.parametrize("name", ["ncnn-fp16", "litert-fp32", "executorch-xnnpack", "coreml"])
def test_a_dynamic_input_is_refused(hub: Artifact, tmp_path: Path, converter: Converter, name: str) -> None:
    dynamic = hub.sidecar.model_copy(update={"input_shape": (None, 3, None, None)})
    with pytest.raises(InputError) as caught:
        export(name, replace(hub, sidecar=dynamic), tmp_path / "out", batch="dynamic", size="dynamic")
    tool = {"ncnn-fp16": "ncnn", "litert-fp32": "litert", "executorch-xnnpack": "executorch", "coreml": "coreml"}[name]
    assert list(caught.value.problems) == [
        f"{name}: batch: is dynamic, but {tool} takes one image at a time; set batch: 1",
        f"{name}: size: is dynamic, but {tool} needs a fixed one; set [height, width], or null",
    ]
    assert not converter.asked


def test_a_converter_without_a_build_for_this_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mobile.sys, "platform", "linux")
    monkeypatch.setattr(mobile.platform, "machine", lambda: "riscv64")
    steps = [step(name).missing() for name in ("ncnn", "litert", "executorch", "coreml")]
    assert steps[3] == (
        "coremltools: there is no converter for linux riscv64 (only for linux x86_64, darwin x86_64, darwin arm64); "
        "export there"
    )
    assert all(steps)
    monkeypatch.setattr(mobile.platform, "machine", lambda: "x86_64")
    assert [step(name).missing() for name in ("ncnn", "litert", "executorch", "coreml")] == [None] * 4


class TestParity:
    def test_what_cannot_run_here_is_said_and_not_judged(
        self, hub: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        artifact = replace(hub, sidecar=hub.sidecar.model_copy(update={"runtime": "coreml"}))
        record = parity.require(None, artifact, photographs(1, 64, 96), target("coreml"))
        assert read_json(artifact.folder / "parity.json") == record
        assert record == {
            "images": 0, "max_abs_score": None, "max_abs_box_px": None, "max_abs": None, "passed": None,
            "tolerance": {"max_abs_score": 0.02, "max_abs_box_px": 0.5},
            "reason": "the agent has no runtime for coreml",
        }  # fmt: skip
        assert "parity coreml: not run: the agent has no runtime for coreml" in capsys.readouterr().err

    def test_a_runtime_that_is_not_installed(self, hub: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parity, "unusable", lambda name: f"{name} is not usable on this device")
        artifact = replace(hub, sidecar=hub.sidecar.model_copy(update={"runtime": "ncnn"}))
        record = parity.require(None, artifact, photographs(1, 64, 96), target("ncnn-fp16"))
        assert (record["passed"], record["reason"]) == (None, "ncnn is not usable on this device")


class TestNcnnGraph:
    LINES = (
        "7767517",
        "3 4",
        "Input in0 0 1 in0",
        "Convolution conv_1 1 1 in0 1 0=16",
        "Slice s 1 2 1 out0 out1 -23300=2,4,-233 1=1",
    )
    GRAPH = "\n".join((*LINES, ""))

    def test_ends_get_the_names_of_the_onnx(self) -> None:
        assert renamed(self.GRAPH, "images", ["boxes", "scores"]).splitlines() == [
            "7767517",
            "3 4",
            "Input images 0 1 images",
            "Convolution conv_1 1 1 images 1 0=16",
            "Slice s 1 2 1 boxes scores -23300=2,4,-233 1=1",
        ]

    def test_layers_that_pnnx_gave_up_on(self) -> None:
        graph = f"{self.GRAPH}TopK TopK_3 1 1 1 2\npnnx.Expression e 0 1 3\nMod Mod_1 1 1 3 4\n"
        log = "############# pass_ncnn\nignore TopK TopK_3 param axis=1\nignore Gone Gone_1 param x=1\n"
        assert unsupported(graph, log) == ["TopK", "pnnx.Expression"]
        assert unsupported(self.GRAPH, log) == []


def test_litert_quantises_what_leads_to_a_layer() -> None:
    def operator(name: str, inputs: list[int], output: int) -> dict[str, Any]:
        return {"op_name": name, "inputs": inputs, "outputs": [output]}

    chain = [
        operator("CONV_2D", [0, 10], 1),
        operator("LOGISTIC", [1], 2),
        operator("MUL", [1, 2], 3),
        operator("DEPTHWISE_CONV_2D", [3, 10], 4),  # the last learned layer
        operator("SOFTMAX", [4], 5),
        operator("CONV_2D", [5, 11], 6),  # the fixed bins of a box distribution
    ]
    tensors = {10: {"shape": [16, 3, 3, 3]}, 11: {"shape": [1, 1, 1, 16]}}
    assert upstream(chain, tensors) == chain[:3]


def test_core_ml_computes_in_half_what_leads_to_a_layer() -> None:
    class Operator:
        def __init__(self, kind: str, weights: tuple[int, ...] | None = None, readers: tuple[Any, ...] = ()) -> None:
            self.op_type = kind
            self.inputs = {"weight": SimpleNamespace(shape=weights)} if weights else {}
            self.outputs = [SimpleNamespace(child_ops=list(readers))]

    bins = Operator("conv", (1, 16, 1, 1))
    softmax = Operator("softmax", readers=(bins,))
    last = Operator("conv", (64, 16, 1, 1), readers=(softmax,))
    silu = Operator("silu", readers=(last,))
    assert [leads_to_layer(one) for one in (silu, last, softmax, bins)] == [True, True, False, False]


def test_every_environment_is_pinned() -> None:
    for module in (ncnn_from_onnx, litert_from_onnx, executorch_from_onnx, coreml_from_onnx):
        assert all("==" in package or package.startswith(("onnx>=", "numpy<")) for package in module.NEEDS.packages)
