"""A prediction of latencies that were not measured, from those that were: it orders a queue, and is no measurement.

Least squares of log(p90) on log(GFLOPs) and log(weights), per target, with a level of its own for each device. What a
few points cannot tell is held by a prior, which is ridge regression: half of the work takes somewhat more than half of
the time, since some of the time is spent on no work at all. The interval is that of a new observation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Mean and standard deviation of the slopes on log GFLOPs and log weights, before anything is measured.
_SLOPES = ((0.8, 0.25), (0.0, 0.25))
_LEVEL_SD = 100.0  # of log ms: nothing is known of a device
_NOISE, _NOISE_WEIGHT = 0.25, 2.0  # residual before anything is measured, and as many points as it counts for
_ELSEWHERE = 2.0  # residuals of other devices count so many times as large
_WIDTH = 2.0  # of an interval, in standard deviations


@dataclass(frozen=True)
class Point:
    """A measured latency, and what it is fitted on."""

    device: str
    gflops: float
    parameters: int
    p90_ms: float


@dataclass(frozen=True)
class Prediction:
    """Of a latency in ms, and the bounds of the interval that should hold it."""

    ms: float
    low_ms: float
    high_ms: float


class Fit:
    """One target's latencies, predicted for one device.

    Args:
        points: measured of this target, on any device.
        device: for which to predict.
    """

    def __init__(self, points: Sequence[Point], device: str) -> None:
        self.measured_here = sum(point.device == device for point in points)
        devices = [device, *sorted({point.device for point in points} - {device})]
        self._width = len(devices)
        rows = [self._row(point.gflops, point.parameters, devices.index(point.device)) for point in points]
        x = np.array(rows, float).reshape(len(points), self._width + 2)
        y = np.array([math.log(point.p90_ms) for point in points], float)
        weights = np.array([1.0 if point.device == device else 1 / _ELSEWHERE**2 for point in points], float)
        means = np.array([*[0.0] * self._width, *(mean for mean, _ in _SLOPES)])
        spreads = np.array([*[_LEVEL_SD] * self._width, *(spread for _, spread in _SLOPES)])
        self._noise = _NOISE
        for _ in range(2):  # the residual decides how much the prior counts
            precision = x.T @ (weights[:, None] * x) / self._noise**2 + np.diag(spreads**-2.0)
            self._covariance = np.linalg.inv(precision)
            self._beta = self._covariance @ (x.T @ (weights * y) / self._noise**2 + means * spreads**-2.0)
            residuals = weights * (y - x @ self._beta) ** 2
            counted = _NOISE_WEIGHT + weights.sum()
            self._noise = math.sqrt((_NOISE_WEIGHT * _NOISE**2 + residuals.sum()) / counted)

    def predict(self, gflops: float, parameters: int) -> Prediction | None:
        """None where nothing was measured on the device yet."""
        if not self.measured_here:
            return None
        row = self._row(gflops, parameters, 0)
        middle = float(row @ self._beta)
        spread = _WIDTH * math.sqrt(self._noise**2 + float(row @ self._covariance @ row))
        return Prediction(math.exp(middle), math.exp(middle - spread), math.exp(middle + spread))

    def _row(self, gflops: float, parameters: int, device: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        levels = [float(index == device) for index in range(self._width)]
        return np.array([*levels, math.log(gflops), math.log(parameters / 1e6)])
