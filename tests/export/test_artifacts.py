"""What is written: files, names, shapes, metadata, hashes; and that the runtimes compute what torch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent.artifact import load as load_on_device
from edgekd.agent.runtimes.openvino_runtime import shared_core
from edgekd.atomic import read_json, sha256_file
from edgekd.errors import InputError
from edgekd.export.artifacts import METADATA_KEY, onnx_metadata, open_artifact
from edgekd.export.contract import Artifact, Sidecar
from edgekd.export.outputs import least_openvino
from edgekd.export.targets import run_steps
from tests.export.students import CLASS_NAMES, photographs, source, target

TOLERANCE = {"fp32": (2e-5, 2e-3), "fp16": (0.002, 0.05)}  # score, box edge in px
_MADE: dict[Any, Artifact] = {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Exports once per model, head, target and overrides."""

    def make(
        name: str, head: str | None, target_name: str, size_px: tuple[int, int] = (64, 96), **over: Any
    ) -> Artifact:
        key = (name, head, target_name, size_px, tuple(over.items()))
        if key not in _MADE:
            folder = tmp_path_factory.mktemp("export") / target_name
            _MADE[key] = run_steps(source(name, head, size_px), target(target_name, **over), folder)
        return _MADE[key]

    return make


def images(count: int, height_px: int, width_px: int) -> np.ndarray:
    return photographs(count, height_px, width_px).transpose(0, 3, 1, 2).astype(np.float32) / 255


def in_torch(name: str, head: str | None, batch: np.ndarray) -> list[np.ndarray]:
    import torch

    with torch.no_grad():
        outputs = source(name, head).module(torch.from_numpy(batch))
    return [output.numpy() for output in (outputs if isinstance(outputs, tuple) else (outputs,))]


def in_onnxruntime(path: Path, batch: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"images": batch})


def in_openvino(path: Path, batch: np.ndarray) -> list[np.ndarray]:
    model = shared_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(model({"images": batch}).values())


RUN = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def assert_equal(name: str, head: str | None, artifact: Artifact, batch: np.ndarray) -> None:
    expected = in_torch(name, head, batch)
    actual = RUN[artifact.sidecar.runtime](artifact.model_path, batch)
    score, box_px = TOLERANCE[artifact.sidecar.precision]
    assert [output.shape for output in actual] == [output.shape for output in expected]
    if artifact.sidecar.decode == "dense":
        np.testing.assert_allclose(actual[0], expected[0], rtol=0, atol=box_px)
        np.testing.assert_allclose(actual[1], expected[1], rtol=0, atol=score)
    else:
        for ours, theirs in zip(expected[0], actual[0], strict=True):
            assert_same_list(ours, theirs, score, box_px)


def assert_same_list(ours: np.ndarray, theirs: np.ndarray, score: float, box_px: float) -> None:
    """Rows of nearly equal scores may swap places, at the end of the list also in or out of it."""
    np.testing.assert_allclose(theirs[:, 4], ours[:, 4], rtol=0, atol=score)
    off = np.abs(theirs[None] - ours[:, None])  # (ours, theirs, 6)
    same = (off[..., :4].max(axis=-1) < box_px) & (off[..., 4] < score) & (off[..., 5] == 0)
    assert (same.any(axis=1) | (ours[:, 4] < ours[-1, 4] + score)).all()
    assert same.any(axis=1).sum() > 10


def test_outputs_of_the_test_students_depend_on_the_image() -> None:
    boxes, scores = in_torch("yolo11p", None, images(4, 64, 96))
    assert np.ptp(scores, axis=0).max() > 100 * TOLERANCE["fp32"][0]
    assert np.ptp(boxes, axis=0).max() > 100 * TOLERANCE["fp32"][1]


@pytest.mark.parametrize("target_name", ["onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16"])
def test_every_target_computes_what_torch_computes(made: Any, target_name: str) -> None:
    assert_equal("yolo11p", None, made("yolo11p", None, target_name), images(1, 64, 96))


def test_the_end_to_end_head_of_yolo26(made: Any) -> None:
    assert_equal("yolo26p", "one2one", made("yolo26p", "one2one", "openvino-fp32"), images(1, 64, 96))


def test_dynamic_batch_and_size(made: Any) -> None:
    artifact = made("yolo11p", None, "onnx-fp32", batch="dynamic", size="dynamic")
    assert artifact.sidecar.input_shape == (None, 3, None, None)
    assert artifact.sidecar.size_px == (64, 96)
    for shape in ((1, 64, 96), (3, 96, 64), (2, 128, 160)):
        assert_equal("yolo11p", None, artifact, images(*shape))


@pytest.mark.slow
@pytest.mark.parametrize("target_name", ["onnx-fp32", "onnx-fp16", "openvino-fp32", "openvino-fp16"])
@pytest.mark.parametrize(
    ("name", "head"),
    [("yolov8n", None), ("yolo11n", None), ("yolo12n", None), ("yolo26n", "one2one"), ("yolo26n", "one2many")],
)
def test_nano_models_in_every_form(made: Any, name: str, head: str | None, target_name: str) -> None:
    assert_equal(name, head, made(name, head, target_name, (384, 640)), images(1, 384, 640))
    assert_equal(name, head, made(name, head, target_name, (96, 96), batch=4), images(4, 96, 96))
    dynamic = made(name, head, target_name, (160, 192), batch="dynamic", size="dynamic")
    for shape in ((1, 160, 192), (3, 384, 640)):
        assert_equal(name, head, dynamic, images(*shape))


@pytest.mark.slow
@pytest.mark.parametrize("target_name", ["onnx-fp32", "openvino-fp32"])
def test_rtdetr(made: Any, target_name: str) -> None:
    assert_equal("rtdetr-l", None, made("rtdetr-l", None, target_name, (160, 192)), images(1, 160, 192))


def test_names_shapes_and_metadata_of_the_onnx(made: Any) -> None:
    import onnx

    artifact = made("yolo11p", None, "onnx-fp32")
    model = onnx.load(artifact.model_path)
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert shapes == {"images": [1, 3, 64, 96], "boxes": [1, cells, 4], "scores": [1, cells, len(CLASS_NAMES)]}
    assert model.opset_import[0].version == 17
    assert onnx_metadata(model) == artifact.sidecar.model_copy(update={"files": {}})


def test_openvino_carries_the_sidecar_and_the_names(made: Any) -> None:
    artifact = made("yolo11p", None, "openvino-fp16")
    model = shared_core().read_model(artifact.model_path)
    inside = Sidecar.model_validate_json(model.get_rt_info([METADATA_KEY]).astype(str))
    assert inside == artifact.sidecar.model_copy(update={"files": {}})
    assert [output.get_any_name() for output in model.outputs] == ["boxes", "scores"]
    assert list(artifact.sidecar.files) == ["model.xml", "model.bin", "metadata.yaml"]


def test_sidecar_says_all_that_a_user_needs(made: Any) -> None:
    artifact = made("yolo26p", "one2one", "openvino-fp32")
    sidecar = open_artifact(artifact.folder).sidecar
    assert sidecar == artifact.sidecar
    assert (sidecar.target, sidecar.runtime, sidecar.precision, sidecar.decode) == (
        "openvino-fp32", "openvino", "fp32", "end2end",
    )  # fmt: skip
    assert sidecar.class_names == CLASS_NAMES
    assert sidecar.parent_sha256 == "5eed" * 16
    assert sorted(sidecar.tools) == ["edgekd", "onnx", "onnxslim", "openvino", "torch"]
    assert sorted(path.name for path in artifact.folder.iterdir()) == [
        "edgekd.json", "metadata.yaml", "model.bin", "model.xml",
    ]  # fmt: skip
    assert read_json(artifact.folder / "edgekd.json")["files"]["model.bin"] == sha256_file(
        artifact.folder / "model.bin"
    )
    assert load_on_device(artifact.folder).size_px == (64, 96)


def test_a_changed_file_is_noticed(made: Any, tmp_path: Path) -> None:
    artifact = made("yolo11p", None, "onnx-fp32")
    for path in artifact.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes()[:-1])
    with pytest.raises(InputError) as caught:
        open_artifact(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/model.onnx: its sha256 is not the one in edgekd.json; export it again with 'edgekd export'"
    )
    with pytest.raises(InputError, match="no artifact here"):
        open_artifact(tmp_path / "nowhere")


def test_half_precision_is_half_the_size_and_single_is_single(made: Any) -> None:
    def size(target_name: str, file: str) -> int:
        return (made("yolo11p", None, target_name).folder / file).stat().st_size

    weights = 4 * sum(parameter.numel() for parameter in source("yolo11p").module.parameters())
    assert size("openvino-fp32", "model.bin") > 0.99 * weights
    assert size("openvino-fp16", "model.bin") == pytest.approx(size("openvino-fp32", "model.bin") / 2, rel=0.02)
    assert size("onnx-fp16", "model.onnx") == pytest.approx(size("onnx-fp32", "model.onnx") / 2, rel=0.1)


def test_half_precision_keeps_inputs_outputs_and_boxes_single(made: Any) -> None:
    import onnx

    graph = onnx.load(made("yolo11p", None, "onnx-fp16").model_path).graph
    single, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {single}
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    convolutions = [kinds[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert convolutions.count(single) == 1  # the 16 fixed bins
    assert convolutions.count(half) == len(convolutions) - 1
    casts = sum(node.op_type == "Cast" for node in graph.node)
    assert casts <= 8  # one in, and one per tensor that the decoding reads: never back and forth


def test_same_student_same_bytes(made: Any, tmp_path: Path) -> None:
    again = run_steps(source("yolo11p"), target("openvino-fp16"), tmp_path / "again")
    assert again.sidecar == made("yolo11p", None, "openvino-fp16").sidecar


@pytest.mark.slow
def test_same_student_same_bytes_in_onnx(made: Any, tmp_path: Path) -> None:
    for name in ("onnx-fp32", "onnx-fp16"):
        assert (
            run_steps(source("yolo11p"), target(name), tmp_path / name).sidecar == made("yolo11p", None, name).sidecar
        )


def test_export_is_quiet_and_leaves_the_student_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    student = source("yolo26p", "one2many")
    before = {name: value.clone() for name, value in student.module.state_dict().items()}
    run_steps(student, target("onnx-fp32", simplify=False), tmp_path / "out")
    assert not student.module.training
    assert all(torch.equal(value, before[name]) for name, value in student.module.state_dict().items())
    printed = capfd.readouterr()
    assert printed.out == ""
    assert [line for line in printed.err.splitlines() if not line.startswith("export onnx-fp32: ")] == []


def test_the_sidecar_explains_what_the_file_says_itself(tmp_path: Path) -> None:
    """Names, shapes and types are the graph's own; what they mean, and how an input is made, stands beside them."""
    import onnxruntime

    texts = {"boxes": "box x1 y1 x2 y2", "scores": "classes as in class_names", "detections": "score class, best first"}
    for head, decode in ((("yolo11p", None), "dense"), (("yolo26p", "one2one"), "end2end")):
        artifact = run_steps(source(*head), target("onnx-fp32", opset=18), tmp_path / decode)
        sidecar = artifact.sidecar
        session = onnxruntime.InferenceSession(artifact.model_path, providers=["CPUExecutionProvider"])
        found = [(output.name, tuple(output.shape), output.type) for output in session.get_outputs()]
        assert [(one.name, one.shape, f"tensor({one.dtype[:5]})") for one in sidecar.outputs] == found
        assert all(texts[one.name] in one.meaning for one in sidecar.outputs)
        assert all("px of the letterboxed input" in one.coordinates for one in sidecar.outputs if one.name != "scores")
        assert (sidecar.size_multiple, sidecar.least_runtime) == (32, "onnxruntime 1.14")
        assert "round((H - resized height) / 2 - 0.1)" in sidecar.letterbox


@pytest.mark.parametrize(
    ("opsets", "version"),
    [
        (("opset1", "opset8"), "2022.1"),
        (("opset1",), "2022.1"),
        (("opset15", "opset3"), "2024.5"),
        (("opset99",), None),
    ],
)
def test_least_version_of_openvino(opsets: tuple[str, ...], version: str | None) -> None:
    assert least_openvino(opsets) == (version and f"openvino {version}")
