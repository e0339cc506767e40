"""The artifact of a TensorRT target: an ONNX that TensorRT can take, and how the device is to build its engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekd.agent.tensorrt.recipe import Recipe, Shapes, read
from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import parity
from edgekd.export.artifacts import onnx_metadata, open_artifact, save_onnx
from edgekd.export.contract import Artifact, Job, Sidecar, step
from edgekd.export.targets import run_steps
from edgekd.export.tensorrt_from_onnx import TensorRTOptions
from tests.export.students import photographs, source, target

SIZE_PX = (64, 96)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return run_steps(source("yolo11p"), target("tensorrt-fp32"), tmp_path_factory.mktemp("export") / "tensorrt-fp32")


def sidecar(**changes: Any) -> Sidecar:
    values: dict[str, Any] = {
        "target": "onnx-fp32", "runtime": "onnxruntime", "precision": "fp32", "files": {}, "class_names": ("a", "b"),
        "input_shape": (1, 3, 64, 96), "size_px": SIZE_PX, "decode": "dense", "parent_sha256": "0" * 64,
        "tools": {"edgekd": "1"},
    }  # fmt: skip
    return Sidecar(**{**values, **changes})


def quantised(
    folder: Path, dtype: int = TensorProto.INT8, zero: int = 0, bias: bool = False, **changes: Any
) -> Artifact:
    """A graph with one quantiser in front, and perhaps an int32 bias."""
    kind = {TensorProto.INT8: np.int8, TensorProto.UINT8: np.uint8}[dtype]
    constants = {
        "scale": np.array(0.1, np.float32), "zero": np.array(zero, kind),
        "bias": np.array([3], np.int32), "bias_zero": np.array(0, np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("DequantizeLinear", ["bias", "scale", "bias_zero"], ["b"]),
        helper.make_node("Add", ["dq", "b"], ["boxes"]),
    ]
    if not bias:
        nodes = [*nodes[:2], helper.make_node("Identity", ["dq"], ["boxes"])]
    used = {name for node in nodes for name in node.input}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 64, 96]) for name in ("images", "boxes")]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "quantised", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    folder.mkdir()
    return save_onnx(model, sidecar(precision="int8", **changes), folder)


def exported(artifact: Artifact, folder: Path, name: str, **options: Any) -> Artifact:
    folder.mkdir()
    spec = target(name)
    return step("tensorrt").export(artifact, Job(spec, TensorRTOptions.model_validate(options)), folder)


def problems(artifact: Artifact, folder: Path, name: str, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        exported(artifact, folder, name, **options)
    return [problem.removeprefix(f"{name}: ") for problem in caught.value.problems]


def test_the_artifact_is_an_onnx_and_a_recipe_that_the_agent_understands(fp32: Artifact) -> None:
    assert [path.name for path in sorted(fp32.folder.iterdir())] == ["edgekd.json", "model.onnx"]
    opened = open_artifact(fp32.folder).sidecar
    assert (opened.runtime, opened.precision, opened.target) == ("tensorrt", "fp32", "tensorrt-fp32")
    assert read(opened.build, opened.precision) == Recipe("fp32")
    assert onnx_metadata(onnx.load(fp32.model_path)).build == opened.build
    assert not [name for name in opened.tools if "tensorrt" in name]  # the device's, and in its environment record


def test_exporting_needs_no_tensorrt_and_says_what_was_never_executed() -> None:
    found = step("tensorrt")
    assert found.missing() is None
    assert [text.partition(":")[0] for text in found.untested.values()] == [
        "TensorRT 8.6", "TensorRT 10", "TensorRT 11",
    ]  # fmt: skip
    assert "no engine was ever built" in found.untested["tensorrt 10"]
    assert "tensorrt" not in sys.modules


def test_fp16_stands_in_the_onnx(tmp_path: Path) -> None:
    artifact = run_steps(source("yolo11p"), target("tensorrt-fp16"), tmp_path / "tensorrt-fp16")
    kinds = [tensor.data_type for tensor in onnx.load(artifact.model_path).graph.initializer if len(tensor.dims) == 4]
    assert kinds.count(TensorProto.FLOAT16) >= 0.9 * len(kinds) > 0
    assert artifact.sidecar.input_dtype == "float32"
    assert read(artifact.sidecar.build, "fp16").providers == ("GPU",)


@pytest.mark.parametrize(
    ("name", "given", "needed"),
    [
        ("tensorrt-fp16", "fp32", "[onnx, onnx-fp16, tensorrt]"),
        ("tensorrt-int8", "fp32", "[onnx, onnx-int8, tensorrt]"),
        ("tensorrt-fp32", "fp16", "[onnx, tensorrt]"),
    ],
)
def test_an_onnx_of_another_precision_is_refused(
    fp32: Artifact, tmp_path: Path, name: str, given: str, needed: str
) -> None:
    other = Artifact(fp32.folder, fp32.sidecar.model_copy(update={"precision": given}))
    assert problems(other, tmp_path / "made", name) == [
        f"precision: {target(name).precision}, but what comes before the step 'tensorrt' is {given}: the precision of "
        f"each layer stands in the ONNX; use steps: {needed}"
    ]


def test_a_symmetric_int8_graph_is_taken(tmp_path: Path) -> None:
    artifact = exported(quantised(tmp_path / "onnx"), tmp_path / "made", "tensorrt-int8")
    assert artifact.sidecar.precision == "int8"


def test_a_graph_that_tensorrt_would_refuse_on_the_device_is_refused_here(tmp_path: Path, fp32: Artifact) -> None:
    remedy = "use options: {onnx-int8: {scheme: trt}}"
    uneven = ["2 of 2 quantisers are not int8 around zero, which is all that TensorRT takes; " + remedy]
    assert problems(quantised(tmp_path / "a", TensorProto.UINT8), tmp_path / "made-a", "tensorrt-int8") == uneven
    assert problems(quantised(tmp_path / "b", zero=5), tmp_path / "made-b", "tensorrt-int8") == uneven
    assert problems(quantised(tmp_path / "c", bias=True), tmp_path / "made-c", "tensorrt-int8") == [
        "1 biases are quantised, which TensorRT refuses; " + remedy
    ]
    float_graph = Artifact(fp32.folder, fp32.sidecar.model_copy(update={"precision": "int8"}))
    assert problems(float_graph, tmp_path / "made-d", "tensorrt-int8") == [
        f"precision: int8, but no layer of the ONNX is quantised; {remedy}, or raise its max_float_share"
    ]


class TestShapes:
    def dynamic(self, folder: Path, **changes: Any) -> Artifact:
        return quantised(folder, input_shape=(None, 3, None, None), **changes)

    def test_they_reach_the_agent_in_the_models_layout(self, tmp_path: Path) -> None:
        shapes = {"min": [1, 32, 64], "opt": [1, 64, 96], "max": [8, 128, 128]}
        made = exported(self.dynamic(tmp_path / "a"), tmp_path / "made-a", "tensorrt-int8", shapes=shapes)
        assert read(made.sidecar.build, "int8").shapes == Shapes((1, 3, 32, 64), (1, 3, 64, 96), (8, 3, 128, 128))
        nhwc = self.dynamic(tmp_path / "b", layout="NHWC", input_dtype="uint8")
        made = exported(nhwc, tmp_path / "made-b", "tensorrt-int8", shapes=shapes)
        assert read(made.sidecar.build, "int8").shapes == Shapes((1, 32, 64, 3), (1, 64, 96, 3), (8, 128, 128, 3))

    def test_a_dynamic_model_needs_them(self, tmp_path: Path) -> None:
        assert problems(self.dynamic(tmp_path / "onnx"), tmp_path / "made", "tensorrt-int8") == [
            "options.tensorrt.shapes: an engine of dynamic batch or size is built for a range; give one, e.g. {min: "
            "[1, 64, 96], opt: [1, 64, 96], max: [8, 64, 96]} (batch, height, width)"
        ]

    def test_a_static_model_has_none(self, tmp_path: Path) -> None:
        shapes = {"min": [1, 64, 96], "opt": [1, 64, 96], "max": [1, 64, 96]}
        assert problems(quantised(tmp_path / "onnx"), tmp_path / "made", "tensorrt-int8", shapes=shapes) == [
            "options.tensorrt.shapes: batch and size are fixed at [1, 64, 96]; remove it, or make one dynamic"
        ]

    def test_every_problem_at_once(self, tmp_path: Path) -> None:
        artifact = quantised(tmp_path / "onnx", input_shape=(2, 3, None, None))
        shapes = {"min": [1, 128, 96], "opt": [2, 96, 96], "max": [2, 128, 96]}
        assert problems(artifact, tmp_path / "made", "tensorrt-int8", shapes=shapes) == [
            "options.tensorrt.shapes: batch: is fixed at 2; give 2 for min, opt and max",
            "options.tensorrt.shapes: height: 128, 96, 128 is not min <= opt <= max, from 1 up",
            "options.tensorrt.shapes: must include [64, 96] (height, width), which is measured",
        ]


class TestAccelerator:
    def test_it_takes_static_fp16_graphs(self, tmp_path: Path) -> None:
        half = Artifact(quantised(tmp_path / "a").folder, sidecar(precision="fp16", files={"model.onnx": ""}))
        options = {"dla_core": 1, "allow_gpu_fallback": True}
        made = exported(half, tmp_path / "made", "tensorrt-fp16", **options)
        assert read(made.sidecar.build, "fp16").providers == ("DLA1", "GPU")

    def test_and_no_others(self, tmp_path: Path) -> None:
        artifact = quantised(tmp_path / "a", input_shape=(None, 3, 64, 96))
        shapes = {"min": [1, 64, 96], "opt": [1, 64, 96], "max": [4, 64, 96]}
        assert problems(artifact, tmp_path / "made", "tensorrt-int8", dla_core=0, shapes=shapes) == [
            "options.tensorrt.dla_core: the accelerator runs fp16 graphs, not int8; start from tensorrt-fp16",
            "options.tensorrt.dla_core: the accelerator takes one size; set batch to a number, and size to null",
        ]
        assert problems(quantised(tmp_path / "b"), tmp_path / "made-b", "tensorrt-int8", allow_gpu_fallback=True) == [
            "options.tensorrt.allow_gpu_fallback: does nothing without dla_core; remove it, or set dla_core"
        ]


def test_a_wrong_option_names_its_place() -> None:
    with pytest.raises(InputError) as caught:
        target("tensorrt-fp32", options={"tensorrt": {"workspace": 512}})
    (problem,) = caught.value.problems
    assert ".options.tensorrt.workspace: unknown key 'workspace' (known: " in problem or "workspace_mb" in problem


class TestParity:
    def test_without_a_gpu_the_onnx_is_compared_in_onnxruntime(
        self, fp32: Artifact, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record = parity.compare(source("yolo11p").module, fp32, photographs(2, *SIZE_PX), target("tensorrt-fp32"))
        assert record["passed"]
        assert record["runtime"] == "onnxruntime"
        assert record["max_abs_score"] < 1e-4
        said = capsys.readouterr().err
        assert "parity tensorrt-fp32: of the ONNX, in onnxruntime: tensorrt cannot run here (" in said

    def test_what_fails_in_its_own_runtime_is_one_line(self, fp32: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parity, "unusable", lambda name: None)
        with pytest.raises(EnvironmentFault, match=r"^tensorrt-fp32: tensorrt is not usable on this device \("):
            parity.compare(source("yolo11p").module, fp32, photographs(1, *SIZE_PX), target("tensorrt-fp32"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tensorrt-fp32", "tensorrt-fp16"])
@pytest.mark.parametrize("builder", ["python", "trtexec"])
def test_a_real_engine_says_what_torch_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, builder: str
) -> None:
    from edgekd.agent.protocol import AgentError
    from edgekd.agent.runtimes import unusable
    from edgekd.agent.tensorrt import trtexec

    reason = unusable("tensorrt")
    if reason:
        pytest.skip(reason)
    if builder == "trtexec":
        try:
            trtexec.find()
        except AgentError as error:
            pytest.skip(error.message)
    monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path / "cache"))
    spec = target(name, options={"tensorrt": {"builder": builder}})
    artifact = run_steps(source("yolo11p"), spec, tmp_path / name)
    record = parity.compare(source("yolo11p").module, artifact, photographs(4, *SIZE_PX), spec)
    assert record["runtime"] == "tensorrt"
    assert record["passed"], record
    assert len(list((tmp_path / "cache" / "engines").glob("*.plan"))) == 1
