"""The agent as a library: boxes in pixels of the frame, whatever its size."""

from __future__ import annotations

import numpy as np
import pytest

from edgekd.agent.detector import Detector
from edgekd.agent.preprocess import Letterbox, NumpyResize
from edgekd.agent.protocol import AgentError
from edgekd.testing.artifacts import QUADRANTS_PX, expected_scores, make_images, write_artifact


def test_a_frame_of_the_models_size(tmp_path):
    detect = Detector(write_artifact(tmp_path / "a"), conf=0.0, iou=1.0)
    (image,) = make_images(1)
    found = detect(image)
    scores = expected_scores(image[None])[0].reshape(-1)
    assert found.scores == pytest.approx(np.sort(scores)[::-1])
    best = int(scores.argmax())
    assert (found.boxes_px[0].tolist(), found.class_ids[0]) == (QUADRANTS_PX[best // 2].tolist(), best % 2)


def test_boxes_come_back_into_the_frame(tmp_path):
    """8x8 px from 16 rows and 32 columns: a quarter the size, two rows of border above and below."""
    detect = Detector(write_artifact(tmp_path / "a"), conf=0.0, iou=1.0)
    found = detect(np.full((16, 32, 3), 200, np.uint8))
    edges = {tuple(box) for box in found.boxes_px.tolist()}
    assert edges == {(0, 0, 16, 8), (16, 0, 32, 8), (0, 8, 16, 16), (16, 8, 32, 16)}


def test_a_fixed_batch_is_filled(tmp_path):
    detect = Detector(write_artifact(tmp_path / "a", batch=3), conf=0.0, iou=1.0)
    one = Detector(write_artifact(tmp_path / "b"), conf=0.0, iou=1.0)
    (image,) = make_images(1)
    assert detect(image).boxes_px.tolist() == one(image).boxes_px.tolist()


@pytest.mark.parametrize("frame", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8, 4), np.uint8)])
def test_what_is_no_frame(tmp_path, frame):
    with pytest.raises(AgentError, match=r"a frame is uint8 \(height, width, 3\); got "):
        Detector(write_artifact(tmp_path / "a"))(frame)


def test_restore_is_the_way_back():
    letterbox = Letterbox((37, 50), (32, 64), 114, NumpyResize())
    boxes = np.array([[3, 4, 20, 30], [0, 0, 50, 37]], np.float32)
    pad = np.array([letterbox.left_px, letterbox.top_px] * 2)
    scale = np.array([letterbox.inner_px[1] / 50, letterbox.inner_px[0] / 37] * 2)
    assert letterbox.restore((boxes * scale + pad).astype(np.float32)) == pytest.approx(boxes, abs=1e-4)
    assert letterbox.restore(np.array([[-9, -9, 99, 99]], np.float32)).tolist() == [[0, 0, 50, 37]]
