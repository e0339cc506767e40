"""What a score means: precision, recall and F1 over the threshold, calibration, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekd.measure.boxes import ious
from edgekd.types import Detections, FloatArray, GroundTruth, IntArray

Flags = npt.NDArray[np.bool_]
THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)
BINS = 10
LEAST_IOU = 0.5


@dataclass(frozen=True)
class Curve:
    """Over `THRESHOLDS`, each (99,); precision is 1 where nothing is left."""

    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


@dataclass(frozen=True)
class Calibration:
    """Per bin of scores, 0 to 1 in equal steps, each (BINS,).

    Attributes:
        count: detections.
        score: their mean score; NaN where there is none.
        right: share of them that found an object of their own; NaN where there is none.
        error: mean of |score - right| over the detections (expected calibration error; Guo et al., ICML 2017, arXiv
            1706.04599), here of detections, so what was not detected has no part.
    """

    count: IntArray
    score: FloatArray
    right: FloatArray
    error: float | None


def curve(scores: FloatArray, right: Flags, objects: int) -> Curve:
    """Precision, recall and F1 of the detections at or above each threshold.

    Args:
        scores: (N,) of all detections, those in crowds left out.
        right: (N,) whether each found an object of its own; matched best first, so a threshold changes nothing of it.
        objects: of the ground truth, crowds left out.
    """
    order = np.argsort(scores)
    ascending, hits = scores[order], right[order].astype(np.int64)
    left = np.searchsorted(ascending, THRESHOLDS - 1e-9)  # the first one that stays
    from_there = np.concatenate([np.cumsum(hits[::-1])[::-1], [0]])[left]
    kept = len(scores) - left
    precision = np.where(kept > 0, from_there / np.maximum(kept, 1), 1.0)
    recall = from_there / max(objects, 1)
    f1 = 2 * from_there / np.maximum(kept + objects, 1)
    return Curve(*(values.astype(np.float32) for values in (precision, recall, f1)))


def calibration(scores: FloatArray, right: Flags) -> Calibration:
    """How often detections of a score are right; arguments as of `curve`."""
    bins = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins, scores, BINS) / count
        share = np.bincount(bins, right, BINS) / count
    error = float(np.nansum(count * np.abs(mean - share)) / len(scores)) if len(scores) else None
    return Calibration(count, mean.astype(np.float32), share.astype(np.float32), error)


def confusion(images: Sequence[tuple[GroundTruth, Detections, Flags, Flags, Flags]], classes: int) -> IntArray:
    """Who is taken for whom at one threshold: (K + 1, K + 1), rows the truth, columns what was found, background last.

    Right detections stand on the diagonal. Of what is left over, the best detection first takes the missed object of
    another class that it overlaps most, by an IoU of at least 0.5; the rest is invented, or missed.

    Args:
        images: labels, detections at the threshold (best first), which of these are right, which are ignored for lying
            in a crowd, and which objects were missed.
    """
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    for truth, found, right, ignored, missed in images:
        np.add.at(matrix, (found.class_ids[right], found.class_ids[right]), 1)
        wrong = np.flatnonzero(~right & ~ignored)
        open_ = np.flatnonzero(missed)
        overlap = ious(found.boxes_px[wrong], truth.boxes_px[open_])
        free = np.ones(len(open_), np.bool_)
        for row, detection in enumerate(wrong):
            candidates = np.where(free, overlap[row], -1.0) if len(open_) else np.array([-1.0])
            nearest = int(candidates.argmax())
            is_taken = candidates[nearest] >= LEAST_IOU
            actual = truth.class_ids[open_[nearest]] if is_taken else classes
            matrix[actual, found.class_ids[detection]] += 1
            if is_taken:
                free[nearest] = False
        matrix[:, classes] += np.bincount(truth.class_ids[open_[free]], minlength=classes + 1)
    return matrix
