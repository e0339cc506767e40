"""Whole exports with the NMS, or a uint8 input, inside: same results as outside, in both runtimes; and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from edgekd.agent.runtimes import open_model
from edgekd.errors import InputError
from edgekd.export import parity
from edgekd.export.artifacts import onnx_metadata
from edgekd.export.contract import Artifact, Suppression
from edgekd.export.inputs import model_input, torch_input
from edgekd.export.onnx_layout import as_ultralytics
from edgekd.export.onnx_uint8 import take_uint8
from edgekd.export.targets import load_target, run_steps
from tests.export.graphs import given_predictions, spec
from tests.export.students import ROOT, photographs, source, target

FOLDED = {"nms": "in_graph", "input": "uint8_nhwc"}
_MADE: dict[str, Artifact] = {}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def make(target_name: str, **over: Any) -> Artifact:
        key = f"{target_name} {over}"
        if key not in _MADE:
            folder = tmp_path_factory.mktemp("ends") / target_name
            _MADE[key] = run_steps(source("yolo11p"), target(target_name, **over), folder)
        return _MADE[key]

    return make


def outputs(artifact: Artifact, images: np.ndarray) -> dict[str, np.ndarray]:
    sidecar = artifact.sidecar
    runtime = open_model(sidecar.runtime, artifact.model_path, 1, sidecar.precision)
    assert runtime.input_dtype == sidecar.input_dtype
    results = runtime.run(model_input(images, sidecar))
    return {name: np.array(value) for name, value in zip(runtime.output_names, results, strict=True)}


@pytest.mark.parametrize(("target_name", "order"), [("onnx-fp32", "BGR"), ("openvino-fp32", "RGB")])
def test_a_uint8_input_changes_nothing_but_the_input(made: Any, target_name: str, order: str) -> None:
    images = photographs(1, 64, 96)
    options = {"input": {"channel_order": order}}
    folded = made(target_name, input="uint8_nhwc", options=options)
    plain, inside = outputs(made(target_name), images), outputs(folded, images)
    exact = target_name == "onnx-fp32"  # OpenVINO divides by multiplying with the reciprocal there
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(inside[name], plain[name], rtol=0, atol=0 if exact else 1e-4)
    sidecar = folded.sidecar
    assert (sidecar.layout, sidecar.input_dtype, sidecar.channel_order) == ("NHWC", "uint8", order)
    assert sidecar.input_shape == (1, 3, 64, 96)
    given = images[..., ::-1] if order == "BGR" else images
    np.testing.assert_array_equal(model_input(images, sidecar), given)
    np.testing.assert_array_equal(
        torch_input(images, sidecar), images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    )


def test_names_and_shapes_of_the_folded_onnx(made: Any) -> None:
    import onnx

    artifact = made("onnx-fp32", batch="dynamic", size="dynamic", **FOLDED)
    model = onnx.load(artifact.model_path)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", "height", "width", 3], "detections": ["batch", 300, 6]}
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert onnx_metadata(model) == artifact.sidecar.model_copy(update={"files": {}})
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["edgekd.json", "model.onnx"]


@pytest.mark.parametrize(
    ("target_name", "over"),
    [
        ("onnx-fp32", {"batch": "dynamic", "size": "dynamic"}),
        ("onnx-fp16", {}),
        ("openvino-fp16", {"batch": 2}),
    ],
)
def test_parity_of_folded_artifacts(made: Any, target_name: str, over: dict[str, Any]) -> None:
    artifact = made(target_name, **over, **FOLDED)
    record = parity.require(source("yolo11p").module, artifact, photographs(3, 64, 96), target(target_name))
    assert record["boxes"] > 100
    assert artifact.sidecar.nms == Suppression()


@pytest.mark.parametrize(
    ("target_name", "over", "decode", "shape"),
    [
        ("onnx-fp32", {"batch": "dynamic", "size": "dynamic"}, "ultralytics", ("batch", 7, "rows")),
        ("openvino-fp16", {}, "ultralytics", (1, 7, 126)),
        ("onnx-fp16", {"nms": "in_graph"}, "ultralytics_end2end", (1, 300, 6)),
    ],
)
def test_parity_in_the_layout_of_ultralytics(
    made: Any, target_name: str, over: dict[str, Any], decode: str, shape: tuple[Any, ...]
) -> None:
    artifact = made(target_name, layout="ultralytics", **over)
    record = parity.require(source("yolo11p").module, artifact, photographs(3, 64, 96), target(target_name))
    assert record["boxes"] > 100
    assert record["matched"]["share"] == 1
    (output,) = artifact.sidecar.outputs
    assert (artifact.sidecar.decode, output.name, output.shape, output.dtype) == (decode, "output0", shape, "float32")


def test_boxes_and_scores_in_one_output(tmp_path: Path) -> None:
    """The operation, on given values: corners become centre and size, rows become columns."""
    given = given_predictions(2, 3, tmp_path / "given")
    (tmp_path / "joined").mkdir()
    joined = as_ultralytics(given, spec(layout="ultralytics"), tmp_path / "joined")
    boxes = np.array([[[8, 16, 12, 24], [45, 59, 55, 61]]], np.float32)
    scores = np.arange(6, dtype=np.float32).reshape(1, 2, 3) / 8
    session = onnxruntime.InferenceSession(joined.model_path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"b": boxes, "s": scores})
    expected = [[10, 50], [20, 60], [4, 10], [8, 2], [0, 0.375], [0.125, 0.5], [0.25, 0.625]]
    np.testing.assert_array_equal(found, np.float32(expected)[None])
    assert [(output.name, output.shape) for output in joined.sidecar.outputs] == [("output0", ("B", 7, 2))]


def test_parity_finds_a_graph_that_suppresses_wrongly(made: Any, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    from edgekd.export.artifacts import seal

    artifact = made("onnx-fp32", batch="dynamic", size="dynamic", **FOLDED)
    model = onnx.load(artifact.model_path)
    iou = next(tensor for tensor in model.graph.initializer if tensor.name == "nms_iou")
    for value, least in ((0.4, 0.1), (0.95, 0.1)):  # too much falls; too little falls
        iou.CopyFrom(numpy_helper.from_array(np.array([value], np.float32), "nms_iou"))
        onnx.save(model, tmp_path / "model.onnx")
        record = parity.compare(
            source("yolo11p").module,
            seal(tmp_path, ("model.onnx",), artifact.sidecar),
            photographs(2, 64, 96),
            target("onnx-fp32"),
        )
        assert record["passed"] is False
        assert record["max_abs"] > least


def problems(folder: Path, **changes: Any) -> list[str]:
    import yaml

    content = yaml.safe_load((ROOT / "export" / "onnx-fp32.yaml").read_text())
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, **changes}))
    with pytest.raises(InputError) as caught:
        load_target(str(path), {}, "mine")
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def test_what_a_target_cannot_have(tmp_path: Path) -> None:
    assert problems(tmp_path, options={"nms": {"iou": 0.5}, "input": {}}) == [
        "options.nms: does nothing while nms is outside; set nms: in_graph, or remove it",
        "options.input: does nothing while input is float32_nchw; set input: uint8_nhwc, or remove it",
    ]
    assert problems(tmp_path, nms="in_graph", options={"nms": {"iuo": 0.5}}) == [
        "options.nms.iuo: unknown key 'iuo' (known: conf, iou, max_det; did you mean 'iou'?)"
    ]
    assert problems(tmp_path, input="uint8_nhwc", options={"input": {"channel_order": "GBR"}}) == [
        "options.input.channel_order: input should be 'RGB' or 'BGR', got 'GBR'"
    ]


def test_runtimes_that_do_not_take_it(tmp_path: Path) -> None:
    found = problems(tmp_path, runtime="ncnn", layout="ultralytics", **FOLDED)
    assert found[1:] == [
        "nms: in_graph is for graphs that onnxruntime, openvino or tensorrt run, made from ONNX, not for ncnn; "
        "set nms: outside, the agent then does it",
        "input: uint8_nhwc is for graphs that onnxruntime, openvino or tensorrt run, made from ONNX, not for ncnn; set "
        "input: float32_nchw, the agent then does it",
        "layout: ultralytics is for graphs that onnxruntime, openvino or tensorrt run, made from ONNX, not for ncnn; "
        "set layout: edgekd",
    ]


def test_an_end_to_end_head_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onnx-fp32: nms: in_graph: the student's head is end-to-end and needs none; "):
        run_steps(source("yolo26p", "one2one"), target("onnx-fp32", nms="in_graph"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_other_channels_than_rgb_cannot_be_turned(tmp_path: Path) -> None:
    given = given_predictions(6, 2, tmp_path / "given")
    grey = given.sidecar.model_copy(update={"channel_order": "as_data", "input_shape": (1, 1, 32, 32)})
    wanted = spec(input="uint8_nhwc", options={"input": {"channel_order": "BGR"}})
    with pytest.raises(InputError) as caught:
        take_uint8(Artifact(given.folder, grey), wanted, tmp_path)
    assert str(caught.value) == (
        "mine: options.input.channel_order: BGR, but the data has 1 channels, which are not RGB; remove it"
    )
