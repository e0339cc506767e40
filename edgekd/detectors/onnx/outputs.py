"""What the outputs of an ONNX detector mean, found from their shapes, and the two forms that they are brought to.

    columns      one (B, 4 + K, N): boxes, then class scores; or (B, N, 4 + K) where K is known
    scores       (B, N, 4) boxes and (B, N, K) class scores
    rows         one (B, k, 6): x1 y1 x2 y2 score class, best first; rows of score 0 are none
    detections   (B, k, 4) boxes, (B, k) scores, (B, k) class numbers, and perhaps their count (B, 1); or boxes and
                 scores as one (B, k, 5); or all without B, of one image

The first two become boxes (B, N, 4) xyxy px and scores (B, N, K), the others rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.detectors.onnx.facts import Facts, Kind

Arrays = Sequence[np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Meaning:
    """How to read the outputs.

    Attributes:
        places: of the outputs that are read, in the order that the kind has them.
        classes: K, where it is known.
        single: the outputs have no dimension B.
        last: of `columns`: boxes and scores are the last dimension, not the middle one.
    """

    kind: Kind
    places: tuple[int, ...]
    classes: int | None
    single: bool = False
    last: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether boxes and scores of all classes come out, to be suppressed."""
        return self.kind in ("columns", "scores")

    def read(self, outputs: Arrays, facts: Facts, size_px: tuple[int, int]) -> tuple[np.ndarray[Any, Any], ...]:
        """Boxes and scores, or rows; float32.

        Args:
            size_px: (height, width) of the model's input.
        """
        taken = [outputs[place] if place >= 0 else None for place in self.places]
        taken = [one[None] if self.single and one is not None else one for one in taken]
        return _READERS[self.kind](self, taken, lambda boxes: _corners(boxes, facts, self.kind, size_px), facts)


def meaning(outputs: Arrays, facts: Facts) -> Meaning | None:
    """What the outputs of one image are; None if they are nothing known."""
    known = None if facts.classes is None else len(facts.classes)
    kinds: tuple[Kind, ...] = ("detections", "scores", "rows", "columns") if facts.output is None else (facts.output,)
    return next((found for kind in kinds if (found := _FINDERS[kind](outputs, known)) is not None), None)


def _find_columns(outputs: Arrays, known: int | None) -> Meaning | None:
    if len(outputs) != 1 or outputs[0].ndim != 3:
        return None
    _, rows, columns = outputs[0].shape
    if known is not None and 4 + known not in (rows, columns):
        return None
    last = known is not None and rows != 4 + known
    width = columns if last else rows
    return Meaning("columns", (0,), width - 4, last=last) if width > 4 else None


def _find_scores(outputs: Arrays, known: int | None) -> Meaning | None:
    if len(outputs) != 2 or any(one.ndim != 3 or one.dtype.kind != "f" for one in outputs):
        return None
    for boxes, scores in ((0, 1), (1, 0)):
        (_, count, four), (_, same, classes) = outputs[boxes].shape, outputs[scores].shape
        if four == 4 and count == same and known in (None, classes):
            return Meaning("scores", (boxes, scores), classes)
    return None


def _find_rows(outputs: Arrays, known: int | None) -> Meaning | None:
    fits = len(outputs) == 1 and outputs[0].ndim == 3 and outputs[0].shape[2] == 6
    return Meaning("rows", (0,), known) if fits else None


def _find_detections(outputs: Arrays, known: int | None) -> Meaning | None:
    """Boxes with or without scores are the one output with a last dimension of 4 or 5; classes are whole numbers."""
    found = [place for place, one in enumerate(outputs) if one.ndim >= 2 and one.shape[-1] in (4, 5)]
    found = [place for place in found if outputs[place].dtype.kind == "f"]
    boxes = max(found, key=lambda place: outputs[place].ndim, default=None)
    if boxes is None:
        return None
    lead = outputs[boxes].shape[:-1]
    flat = [place for place, one in enumerate(outputs) if place != boxes and one.shape == lead]
    floats = [place for place in flat if outputs[place].dtype.kind == "f"]
    whole = [place for place in flat if outputs[place].dtype.kind in "iu"]
    single = len(lead) == 1
    if outputs[boxes].shape[-1] == 5 and len(whole) == 1 and not floats:
        return Meaning("detections", (boxes, -1, whole[0], -1), known, single)
    if outputs[boxes].shape[-1] != 4 or len(floats) != 1 or len(whole) != 1 or len(lead) > 2:
        return None
    count = [place for place, one in enumerate(outputs) if place not in (boxes, *flat) and one.size == 1]
    return Meaning("detections", (boxes, floats[0], whole[0], count[0] if count else -1), known, single)


def _read_columns(how: Meaning, taken: Any, corners: Any, facts: Facts) -> tuple[np.ndarray[Any, Any], ...]:
    (values,) = taken
    values = values if how.last else values.transpose(0, 2, 1)
    return corners(values[..., :4]), np.ascontiguousarray(values[..., 4:], np.float32)


def _read_scores(how: Meaning, taken: Any, corners: Any, facts: Facts) -> tuple[np.ndarray[Any, Any], ...]:
    boxes, scores = taken
    return corners(boxes), np.ascontiguousarray(scores, np.float32)


def _read_rows(how: Meaning, taken: Any, corners: Any, facts: Facts) -> tuple[np.ndarray[Any, Any], ...]:
    (rows,) = taken
    return (_rows(corners(rows[..., :4]), rows[..., 4], rows[..., 5] - facts.first_class),)


def _read_detections(how: Meaning, taken: Any, corners: Any, facts: Facts) -> tuple[np.ndarray[Any, Any], ...]:
    boxes, scores, classes, count = taken
    scores = boxes[..., 4] if scores is None else scores
    if count is not None:
        scores = np.where(np.arange(scores.shape[1]) < count.reshape(-1, 1), scores, 0)
    return (_rows(corners(boxes[..., :4]), scores, classes.astype(np.int64) - facts.first_class),)


def _rows(boxes: Any, scores: Any, classes: Any) -> np.ndarray[Any, Any]:
    """(B, k, 6), best first; of classes below 0 (a background) none is left."""
    scores = np.where(classes < 0, 0, scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    rows = np.concatenate([boxes, scores[..., None], classes[..., None]], -1).astype(np.float32)
    return np.take_along_axis(rows, order[..., None], 1)


def _corners(boxes: Any, facts: Facts, kind: Kind, size_px: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Boxes (..., 4) as x1 y1 x2 y2 in pixels of the input."""
    boxes = boxes.astype(np.float32)
    if (facts.boxes or ("cxcywh" if kind == "columns" else "xyxy")) == "cxcywh":
        centres, halves = boxes[..., :2], boxes[..., 2:] / 2
        boxes = np.concatenate([centres - halves, centres + halves], -1)
    height, width = size_px
    if facts.normalised:
        boxes *= np.array([width, height] * 2, np.float32)
    return np.asarray(boxes, np.float32)


_FINDERS: dict[Kind, Callable[[Arrays, int | None], Meaning | None]] = {
    "columns": _find_columns, "scores": _find_scores, "rows": _find_rows, "detections": _find_detections,
}  # fmt: skip
_READERS: dict[Kind, Callable[..., tuple[np.ndarray[Any, Any], ...]]] = {
    "columns": _read_columns, "scores": _read_scores, "rows": _read_rows, "detections": _read_detections,
}  # fmt: skip
