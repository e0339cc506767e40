"""Parity of artifacts with an NMS in the graph: is their list one that the NMS may make of torch's predictions?

An overlap next to the threshold falls to either side by rounding, and a whole detection appears or vanishes. So lists
are not compared with lists. Instead every detection must be one of torch's predictions, of the same class, score and
box; none may overlap a better one by clearly more than the threshold; and whatever torch would detect must be there, or
be covered by something as good.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.agent.postprocess import postprocess
from edgekd.export.contract import Suppression
from edgekd.export.tolerance import Tolerance
from edgekd.types import FloatArray

MIN_SCORE = 0.05  # as in parity: below is noise
_IOU_MARGIN = 0.05


def nearest_predictions(
    boxes_px: FloatArray, scores: FloatArray, rows: FloatArray, tolerance: Tolerance
) -> tuple[FloatArray, FloatArray]:
    """How far each row is from torch's nearest prediction of its class.

    Args:
        boxes_px: (N, 4) of torch.
        scores: (N, K) of torch.
        rows: (m, 6) of the artifact.

    Returns:
        differences of scores (m,) and of box edges (m, 4).
    """
    of_class = scores[:, rows[:, 5].astype(np.int64)].T  # (m, N)
    edges = rows[:, None, :4] - boxes_px  # (m, N, 4)
    off = np.abs(rows[:, None, 4] - of_class) / tolerance.score_step
    nearest = np.maximum(off, np.abs(edges).max(axis=2) / tolerance.box_step_px).argmin(axis=1)
    each = np.arange(len(rows))
    return rows[:, 4] - of_class[each, nearest], edges[each, nearest]


def not_suppressed(rows: FloatArray, nms: Suppression) -> FloatArray:
    """Scores of rows, best first, that a better one of their class overlaps by clearly more than the threshold."""
    covered = _overlaps(rows, rows) > nms.iou + _IOU_MARGIN
    fallen: FloatArray = rows[np.triu(covered, 1).any(axis=0), 4]
    return fallen


def missing(boxes_px: FloatArray, scores: FloatArray, rows: FloatArray, nms: Suppression, slack: float) -> FloatArray:
    """By how much at least the scores of torch's detections changed that no row stands for.

    Args:
        boxes_px, scores, rows: as in `nearest_predictions`.
        slack: by how much a row may score less than what it covers.
    """
    found = postprocess([boxes_px, scores], nms.conf, nms.iou, nms.max_det)
    ours = np.column_stack([found.boxes_px, found.scores, found.class_ids]).astype(np.float32)
    stand_in = (_overlaps(ours, rows) > nms.iou - _IOU_MARGIN) & (rows[:, 4] >= ours[:, 4:5] - slack)
    bar = float(rows[:, 4].min()) if len(rows) == nms.max_det else 0.0
    changed: FloatArray = np.maximum(ours[~stand_in.any(axis=1), 4] - max(bar, MIN_SCORE), 0)
    return changed


def _overlaps(some: FloatArray, others: FloatArray) -> npt.NDArray[np.float32]:
    """IoU (n, m) of rows x1 y1 x2 y2 score class; 0 between classes."""
    low = np.maximum(some[:, None, :2], others[:, :2])
    high = np.minimum(some[:, None, 2:4], others[:, 2:4])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area, areas = ((rows[:, 2:4] - rows[:, :2]).prod(axis=1) for rows in (some, others))
    union = np.maximum(area[:, None] + areas - shared, np.float32(1e-9))
    result: npt.NDArray[np.float32] = np.where(some[:, None, 5] == others[:, 5], shared / union, np.float32(0))
    return result
