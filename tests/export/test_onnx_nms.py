"""NMS inside the graph gives what the agent's gives on the same predictions: exactly in ONNX Runtime; in OpenVINO too,
but for the order of equal scores, which it leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.agent.postprocess import Settings, decode_dense, decode_end2end
from edgekd.agent.runtimes.openvino_runtime import shared_core
from edgekd.errors import InputError
from edgekd.export.contract import Artifact, Suppression
from edgekd.export.onnx_nms import append_nms
from tests.export.graphs import given_predictions, predictions, spec

DEFAULT = Suppression()


def suppressed(folder: Path, points: int | None, classes: int, batch: int | None = None, **nms: Any) -> Artifact:
    source = given_predictions(points, classes, folder / "given", batch)
    (folder / "nms").mkdir()
    return append_nms(source, spec(nms="in_graph", options={"nms": nms}), folder / "nms")


def in_onnxruntime(artifact: Artifact, boxes: Any, scores: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(artifact.model_path), options, providers=["CPUExecutionProvider"])
    return session.run(["detections"], {"b": boxes, "s": scores})[0]


def in_openvino(artifact: Artifact, boxes: Any, scores: Any) -> Any:
    model = shared_core().compile_model(str(artifact.model_path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model({"b": boxes, "s": scores})["detections"]


def expected(boxes: Any, scores: Any, nms: Suppression) -> Any:
    """(B, max_det, 6), by the agent."""
    rows = np.zeros((len(boxes), nms.max_det, 6), dtype=np.float32)
    for image, out in enumerate(rows):
        found = decode_dense(boxes[image], scores[image], Settings(nms.conf, nms.iou, nms.max_det))
        out[: len(found.scores)] = np.column_stack([found.boxes_px, found.scores, found.class_ids])
    return rows


RUN = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


@pytest.mark.parametrize("runtime", list(RUN))
@pytest.mark.parametrize(
    ("points", "classes", "size_px", "nms"),
    [
        (189, 10, 96, {}),
        (400, 1, 320, {"conf": 0.25}),
        (300, 80, 320, {"iou": 0.45, "max_det": 20}),
        (30, 3, 96, {"conf": 0.05, "iou": 0.5}),  # fewer pairs than rows
    ],
)
def test_equals_the_agents_nms(
    tmp_path: Path, points: int, classes: int, size_px: int, nms: dict[str, Any], runtime: str
) -> None:
    artifact, settings = suppressed(tmp_path, points, classes, **nms), Suppression(**nms)
    for seed, batch in ((0, 1), (1, 3)):
        boxes, scores = predictions(seed, points, classes, size_px, batch)
        wanted = expected(boxes, scores, settings)
        assert np.count_nonzero(wanted[..., 4]) > 5
        np.testing.assert_array_equal(RUN[runtime](artifact, boxes, scores), wanted)


@pytest.mark.parametrize("runtime", list(RUN))
def test_a_dynamic_number_of_points(tmp_path: Path, runtime: str) -> None:
    artifact = suppressed(tmp_path, None, 3, max_det=50)
    for points in (4, 100):  # fewer and more pairs than rows
        boxes, scores = predictions(points, points, 3, 96, batch=2)
        found = RUN[runtime](artifact, boxes, scores)
        np.testing.assert_array_equal(found, expected(boxes, scores, Suppression(max_det=50)))


def adversarial(seed: int) -> tuple[Any, Any]:
    """Equal scores, empty, turned and repeated boxes, overlaps that are the threshold exactly."""
    boxes, scores = predictions(seed, 120, 4, 96)
    scores = np.round(scores, 1)
    boxes[:, ::7, 2] = boxes[:, ::7, 0]
    boxes[:, 1::7, 3] = boxes[:, 1::7, 1] - 5
    boxes[:, 2::7] = boxes[:, 2::7][..., [2, 3, 0, 1]]
    boxes[:, 3::7] = boxes[:, 3:4]
    boxes[0, :2] = [[0, 0, 10, 10], [0, 0, 10, 5]]  # IoU 0.5
    return boxes, scores


@pytest.mark.parametrize("iou", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("conf", [0.0, 0.3])
def test_ties_and_odd_boxes_in_onnxruntime(tmp_path: Path, conf: float, iou: float) -> None:
    artifact = suppressed(tmp_path, 120, 4, conf=conf, iou=iou)
    for seed in range(3):
        boxes, scores = adversarial(seed)
        wanted = expected(boxes, scores, Suppression(conf=conf, iou=iou))
        np.testing.assert_array_equal(in_onnxruntime(artifact, boxes, scores), wanted)


def test_ties_and_odd_boxes_in_openvino_up_to_the_order_of_equal_scores(tmp_path: Path) -> None:
    artifact = suppressed(tmp_path, 120, 4, conf=0.05, max_det=480)
    for seed in range(3):
        boxes, scores = adversarial(seed)
        found, wanted = (
            in_openvino(artifact, boxes, scores),
            expected(boxes, scores, Suppression(conf=0.05, max_det=480)),
        )
        np.testing.assert_array_equal(found[0, :, 4], wanted[0, :, 4])
        assert sorted(map(tuple, found[0])) == sorted(map(tuple, wanted[0]))


@pytest.mark.parametrize("runtime", list(RUN))
def test_by_hand(tmp_path: Path, runtime: str) -> None:
    artifact = suppressed(tmp_path, 5, 2, conf=0.25, iou=0.55, max_det=4)
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [40, 40, 50, 50], [9, 9, 9, 9]]], dtype=np.float32)
    scores = np.array([[[0.9, 0.1], [0.8, 0.3], [0.7, 0.0], [0.25, 0.26], [0.1, 0.1]]], dtype=np.float32)
    # Class 0: the second overlaps the first by 0.5 and stays; the third, by 0.6, falls; 0.25 is not above 0.25.
    rows = [[0, 0, 10, 10, 0.9, 0], [0, 0, 10, 5, 0.8, 0], [0, 0, 10, 5, 0.3, 1], [40, 40, 50, 50, 0.26, 1]]
    np.testing.assert_array_equal(RUN[runtime](artifact, boxes, scores)[0], np.array(rows, dtype=np.float32))


@pytest.mark.parametrize("runtime", list(RUN))
def test_nothing_found_is_all_zero_and_decodes_to_nothing(tmp_path: Path, runtime: str) -> None:
    artifact = suppressed(tmp_path, 6, 2, batch=1, conf=0.5)
    boxes, scores = predictions(0, 6, 2, 96)
    boxes[0, 0] = np.inf
    rows = RUN[runtime](artifact, boxes, scores * 0.4)
    np.testing.assert_array_equal(rows, np.zeros((1, 300, 6), dtype=np.float32))
    assert len(decode_end2end(rows[0], Settings(0.5, 0.7, 300)).scores) == 0


def test_the_sidecar_says_what_is_inside(tmp_path: Path) -> None:
    artifact = suppressed(tmp_path, 6, 2, conf=0.1, iou=0.6, max_det=10)
    assert artifact.sidecar.decode == "end2end"
    assert artifact.sidecar.nms == Suppression(conf=0.1, iou=0.6, max_det=10)


def test_end_to_end_heads_need_none(tmp_path: Path) -> None:
    source = given_predictions(6, 2, tmp_path / "given")
    source = Artifact(source.folder, source.sidecar.model_copy(update={"decode": "end2end"}))
    with pytest.raises(InputError) as caught:
        append_nms(source, spec(nms="in_graph"), tmp_path)
    assert str(caught.value) == (
        "mine: nms: in_graph: the student's head is end-to-end and needs none; set nms: outside, or "
        "student.head: one2many"
    )
