"""What outputs mean, by their shapes; both forms by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekd.detectors.onnx.facts import Facts
from edgekd.detectors.onnx.outputs import meaning

SIZE = (32, 64)  # height, width
BOXES = np.float32([[[2, 4, 10, 20], [0, 0, 8, 8], [1, 1, 3, 3]]])
CENTRES = np.float32([[[6, 12, 8, 16], [4, 4, 8, 8], [2, 2, 2, 2]]])
SCORES = np.float32([[[0.1, 0.2], [0.9, 0.0], [0.3, 0.6]]])
BEST, CLASSES = np.float32([[0.2, 0.9, 0.6]]), np.int64([[1, 0, 1]])
ROWS = np.float32([[[0, 0, 8, 8, 0.9, 0], [1, 1, 3, 3, 0.6, 1], [2, 4, 10, 20, 0.2, 1]]])


def facts(**keys: Any) -> Facts:
    return Facts.model_validate({"classes": ["cat", "dog"], **keys})


def read(outputs: list[Any], how: Facts) -> tuple[Any, ...]:
    found = meaning(outputs, how)
    assert found is not None
    return found.read(outputs, how, SIZE)


@pytest.mark.parametrize(
    ("outputs", "keys"),
    [
        ([np.concatenate([CENTRES, SCORES], -1).transpose(0, 2, 1)], {}),
        ([np.concatenate([BOXES, SCORES], -1).transpose(0, 2, 1)], {"boxes": "xyxy"}),
        ([np.concatenate([CENTRES, SCORES], -1)], {"output": "columns"}),
        ([BOXES, SCORES], {}),
        ([SCORES, BOXES], {}),
        ([SCORES, BOXES / np.float32([64, 32, 64, 32])], {"normalised": True}),
        ([CENTRES.astype(np.float16), SCORES], {"boxes": "cxcywh"}),
    ],
)
def test_boxes_and_scores(outputs: list[Any], keys: dict[str, Any]) -> None:
    boxes, scores = read(outputs, facts(**keys))
    np.testing.assert_allclose(boxes, BOXES, rtol=1e-3)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-3)
    assert boxes.dtype == scores.dtype == np.float32


@pytest.mark.parametrize(
    ("outputs", "keys"),
    [
        ([ROWS], {}),
        ([BOXES, BEST, CLASSES], {}),
        ([CLASSES, BEST, BOXES], {}),
        ([np.concatenate([BOXES, BEST[..., None]], -1), CLASSES], {}),
        ([BOXES[0], CLASSES[0], BEST[0]], {}),
        ([BOXES[0], CLASSES[0] + 1, BEST[0]], {"first_class": 1}),
        ([np.int32([[3]]), BOXES, BEST, CLASSES.astype(np.int32)], {}),
    ],
)
def test_detections(outputs: list[Any], keys: dict[str, Any]) -> None:
    """Best first, whatever their order."""
    (rows,) = read(outputs, facts(**keys))
    np.testing.assert_allclose(rows, ROWS)


def test_what_lies_behind_the_count_and_what_is_background_is_none() -> None:
    (rows,) = read([np.int32([[2]]), BOXES, BEST, CLASSES.astype(np.int32)], facts())
    np.testing.assert_allclose(rows[0, :, 4], [0.9, 0.2, 0])
    (rows,) = read([BOXES, BEST, CLASSES], facts(first_class=1))
    np.testing.assert_allclose(rows[0, :, 4], [0.6, 0.2, 0])
    assert rows[0, :2, 5].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("outputs", "keys"),
    [
        ([BOXES], {}),
        ([BOXES, SCORES[:, :2]], {}),
        ([BOXES, np.zeros((1, 3, 7), np.float32)], {}),
        ([np.zeros((1, 7, 100), np.float32)], {}),
        ([BOXES, BEST], {}),
        ([BOXES, SCORES], {"output": "rows"}),
        ([np.zeros((3, 4), np.float32)], {}),
    ],
)
def test_unknown(outputs: list[Any], keys: dict[str, Any]) -> None:
    assert meaning(outputs, facts(**keys)) is None


def test_the_number_of_classes() -> None:
    """Of dense outputs from their shape, of rows from the names alone."""
    unnamed = Facts()
    for outputs in ([BOXES, SCORES], [np.zeros((1, 6, 100), np.float32)]):
        found = meaning(outputs, unnamed)
        assert found is not None and found.classes == 2
    found = meaning([ROWS], unnamed)
    assert found is not None and (found.kind, found.classes) == ("rows", None)
