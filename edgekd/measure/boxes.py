"""Overlaps of boxes x1 y1 x2 y2, in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekd.types import FloatArray

FloatMatrix = npt.NDArray[np.float64]


def areas_px2(boxes_px: FloatArray) -> FloatMatrix:
    """(N,) of (N, 4) boxes."""
    areas: FloatMatrix = (np.asarray(boxes_px[:, 2:], np.float64) - boxes_px[:, :2]).prod(-1)
    return areas


def intersections_px2(first: FloatArray, second: FloatArray) -> FloatMatrix:
    """(N, M) of (N, 4) and (M, 4) boxes."""
    a, b = np.asarray(first, np.float64)[:, None], np.asarray(second, np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared: FloatMatrix = sides.clip(0).prod(-1)
    return shared


def ious(first: FloatArray, second: FloatArray) -> FloatMatrix:
    """(N, M) intersection over union of (N, 4) and (M, 4) boxes; 0 of two empty ones."""
    shared = intersections_px2(first, second)
    return share(shared, areas_px2(first)[:, None] + areas_px2(second) - shared)


def share(part: FloatMatrix, whole: FloatMatrix) -> FloatMatrix:
    """`part` / `whole`, 0 where there is no whole."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
