"""An ONNX file as a detector: equal to the network that it was made of, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekd.agent.postprocess import postprocess
from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.spec import DenseHead, DetectionsHead, Needs
from edgekd.errors import InputError
from edgekd.export.targets import run_steps
from tests.export.students import CLASS_NAMES, photographs, source, student, target

WHOLE = Needs(parts=frozenset({"class_logits", "boxes"}))
SIZE = (64, 96)


def opened(path: Path, said: Any = None) -> Detector:
    if said is not None:
        path.with_suffix(".json").write_text(json.dumps(said))
    return families.open_detector(None, Asked(None, path, ("of", "the data"), 3, "r.yaml: teacher"))


def images(count: int) -> torch.Tensor:
    return torch.from_numpy(photographs(count, *SIZE)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """yolo11p of 64x96 px, one image at a time, as edgekd exports it."""
    folder = tmp_path_factory.mktemp("artifact") / "onnx"
    return run_steps(source("yolo11p", size_px=SIZE), target("onnx-fp32"), folder).model_path


def copied(path: Path, folder: Path, **metadata: str) -> Path:
    """The same graph with other metadata."""
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, folder / "x.onnx")
    return folder / "x.onnx"


def constant(folder: Path, outputs: dict[str, Any], shape: tuple[Any, ...] = (1, 3, 16, 16)) -> Path:
    """A graph that says the same of every image."""
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_"], [name]) for name in outputs],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), f"{name}_") for name, value in outputs.items()],
    )
    for place, value in enumerate(outputs.values()):
        dtype = helper.np_dtype_to_tensor_dtype(np.asarray(value).dtype)
        graph.output[place].type.CopyFrom(helper.make_tensor_type_proto(dtype, np.shape(value)))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "x.onnx")
    return folder / "x.onnx"


def test_points_that_are_told(artifact: Path, tmp_path: Path) -> None:
    """With its strides, logits and boxes at every point are those of the network, image by image."""
    path = copied(artifact, tmp_path)
    detector = opened(path, {"classes": list(CLASS_NAMES), "strides": [8, 16, 32]})
    spec = detector.spec
    assert isinstance(spec.head, DenseHead)
    assert (spec.head.strides, spec.head.point_offset, spec.class_names) == ((8, 16, 32), 0.5, CLASS_NAMES)
    assert spec.parameters > 1e5 and not spec.traceable
    own = student("yolo11p")
    with torch.no_grad():
        expected = run(own, images(3), WHOLE).dense["one2many"]
        found = run(detector.frozen(), images(3), WHOLE).dense["one2many"]
    torch.testing.assert_close(found.points_px, expected.points_px)
    torch.testing.assert_close(found.point_strides, expected.point_strides)
    assert found.level_sizes == expected.level_sizes
    torch.testing.assert_close(found.boxes_px, expected.boxes_px, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.class_logits, expected.class_logits, atol=2e-3, rtol=1e-3)
    logits = run(detector, images(1), Needs(parts=frozenset({"class_logits"}))).dense["one2many"]
    with pytest.raises(RuntimeError, match="add 'boxes'"):
        _ = logits.boxes_px
    assert deepcopy(detector.module) is detector.module


def test_without_points_it_has_detections_alone(artifact: Path) -> None:
    """An artifact of edgekd does not say whose points its rows are; its boxes and scores are known."""
    detector = opened(artifact)
    assert isinstance(detector.spec.head, DetectionsHead)
    assert detector.spec.class_names == CLASS_NAMES
    assert run(detector, images(1), WHOLE).dense == {}
    module = detector.export_module()
    assert module.decode == "dense"
    boxes, scores = module(images(2))
    with torch.no_grad():
        expected = student("yolo11p").export_module(None)(images(2))
    torch.testing.assert_close(boxes, expected[0], atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(scores, expected[1], atol=1e-4, rtol=1e-3)


def test_an_export_with_names_and_columns_has_yolo_s_points(artifact: Path, tmp_path: Path) -> None:
    columns = np.zeros((1, 5, 126), np.float32)  # 8 x 12 + 4 x 6 + 2 x 3 points
    columns[:, 2:4], columns[:, 4] = 8, 0.25
    path = constant(tmp_path, {"output0": columns}, (1, 3, *SIZE))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"names": "{0: 'cat'}"})
    onnx.save(model, path)
    detector = opened(path)
    assert isinstance(detector.spec.head, DenseHead) and detector.spec.head.point_offset == 0.5
    found = run(detector, images(2), WHOLE).dense["one2many"]
    np.testing.assert_allclose(found.boxes_px[1, 5], [-4, -4, 4, 4])
    np.testing.assert_allclose(found.class_logits.sigmoid(), 0.25, rtol=1e-6)
    path.with_suffix(".json").write_text('{"strides": [8, 16]}')
    with pytest.raises(InputError, match="does not have one output for each point of strides 8, 16"):
        opened(path)


def test_other_sizes_are_letterboxed(tmp_path: Path) -> None:
    """A detector of 16x16 px sees 64x96 px images a sixth as large, and its boxes are brought back."""
    rows = np.float32([[[2, 4, 8, 10, 0.9, 0], [0, 0, 1, 1, 0.1, 0]]])
    detector = opened(constant(tmp_path, {"rows": rows}), {"classes": ["cat"]})
    found = detector.export_module()(images(3))
    assert found.shape == (3, 2, 6)
    np.testing.assert_allclose(found[2, 0], [12, 24, 48, 60, 0.9, 0], rtol=1e-6)
    columns = np.full((1, 5, 5), 0.5, np.float32)
    dense = opened(constant(tmp_path, {"o": columns}), {"classes": ["cat"], "strides": [8, 16]})
    with pytest.raises(InputError, match=r"takes 16x16 px, the images have 96x64: its points are not theirs"):
        run(dense, images(1), WHOLE)


def test_the_convention_of_the_images(tmp_path: Path) -> None:
    """Blue first, white is 255, less the mean, over the deviation: seen where scores are a pixel's values."""
    mean, std = [10.0, 20.0, 30.0], [300.0, 400.0, 500.0]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["values"], axes=[2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["values", "axis"], ["scores"]),
            helper.make_node("Identity", ["box"], ["boxes"]),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, 32, 32))],
        [helper.make_tensor_value_info(*output) for output in (("boxes", 1, (1, 1, 4)), ("scores", 1, (1, 1, 3)))],
        [
            numpy_helper.from_array(np.int64([1]), "axis"),
            numpy_helper.from_array(np.float32([[[0, 0, 9, 9]]]), "box"),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "x.onnx")
    said = {"colours": "bgr", "highest": 255.0, "mean": mean, "std": std}
    detector = opened(tmp_path / "x.onnx", said)
    assert detector.spec.class_names == ("class 0", "class 1", "class 2")
    image = torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1).expand(1, 3, 32, 32)
    _, scores = detector.export_module()(image)
    np.testing.assert_allclose(scores[0, 0], [(153 - 10) / 300, (102 - 20) / 400, (51 - 30) / 500], rtol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "said", "fault"),
    [
        ({"o": np.zeros((1, 3, 9), np.float32)}, None, r"gives float32 \[1, 3, 9\], which are no boxes and scores"),
        ({"o": np.zeros((1, 9, 6), np.float32)}, None, "does not say its classes"),
        ({"b": np.zeros((1, 9, 4), "f"), "s": np.zeros((1, 9, 3), "f")}, {"classes": ["a"]}, "of 1 classes"),
        ({"o": np.full((1, 9, 6), 3, np.float32)}, {"classes": ["a"]}, r"scores outside of 0\.\.1 \(3 to 3\)"),
    ],
)  # fmt: skip
def test_outputs_that_are_none(outputs: Any, said: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=fault) as caught:
        opened(constant(tmp_path, outputs), said).export_module()(torch.zeros(1, 3, 16, 16))
    assert len(caught.value.problems) == 1


def test_files_that_are_none(artifact: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(artifact.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"broken\.onnx is no ONNX that runs here"):
        opened(broken)
    with pytest.raises(InputError, match="no file"):
        opened(tmp_path / "none.onnx")
    with pytest.raises(InputError, match=r"takes images tensor\(float\) \[3, 16, 16\]; one batch of images"):
        opened(constant(tmp_path, {"o": np.zeros((1, 9, 6), np.float32)}, (3, 16, 16)))
    with pytest.raises(InputError, match="leave model out"):
        families.open_detector("onnx", Asked("yolo11n", artifact, (), 3, "here"))


def test_it_only_teaches(artifact: Path) -> None:
    detector = opened(artifact)
    assert families.meant(None, artifact) == "onnx"
    with pytest.raises(InputError, match="can teach, but not be trained"):
        families.trainable(detector, "here")
    with pytest.raises(InputError, match="cannot be taken apart"):
        detector.head_tail("boxes", 0, 0, "one2many")


@pytest.mark.parametrize("overrides", [{"input": "uint8_nhwc"}, {"layout": "ultralytics"}, {"nms": "in_graph"}])
def test_every_form_in_which_edgekd_exports(overrides: dict[str, Any], tmp_path: Path) -> None:
    """Images as bytes with channels last; one output; detections that are suppressed already."""
    path = run_steps(source("yolo11p", size_px=SIZE), target("onnx-fp32", **overrides), tmp_path / "x").model_path
    module = opened(path).export_module()
    with torch.no_grad():
        boxes, scores = student("yolo11p").export_module(None)(images(2))
    if "nms" not in overrides:
        found_boxes, found_scores = module(images(2))
        torch.testing.assert_close(found_boxes, boxes, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found_scores, scores, atol=1e-4, rtol=1e-3)
        return
    assert module.decode == "end2end"
    rows = module(images(2))
    for image in range(2):
        expected = postprocess([boxes[image].numpy(), scores[image].numpy()], 0.01, 0.7, 300)
        found = postprocess([rows[image].numpy()], 0.01, 0.7, 300)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        assert len(found.scores) > 5
