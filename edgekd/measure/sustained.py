"""Latency over a long run: what is left of the first minutes once the device is warm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.types import IntArray

WINDOWS = 30
_LEAST_SAMPLES = 5  # of a window whose median is worth stating


@dataclass(frozen=True)
class OverTime:
    """Medians of equal spans of a run.

    Attributes:
        window_seconds: length of a span.
        p50_ms: median end-to-end latency per span, in order.
    """

    window_seconds: float
    p50_ms: tuple[float, ...]

    @property
    def last_over_first(self) -> float:
        """How much longer an inference takes at the end than at the beginning."""
        return self.p50_ms[-1] / self.p50_ms[0]

    def note(self) -> str:
        """One line for people."""
        minutes = self.window_seconds * len(self.p50_ms) / 60
        return f"after {minutes:.1f} min the median is {self.last_over_first:.2f} times that of the beginning"

    def as_json(self) -> dict[str, Any]:
        """For the summary file."""
        return {
            "window_seconds": self.window_seconds, "p50_ms": list(self.p50_ms), "last_over_first": self.last_over_first,
        }  # fmt: skip


def over_time(end_to_end_ns: IntArray, windows: int = WINDOWS) -> OverTime:
    """Cut a run into spans of equal time.

    Args:
        end_to_end_ns: (N,) samples in order.
        windows: how many spans; fewer where some would hold less than five samples.
    """
    ends_s = np.cumsum(end_to_end_ns) / 1e9
    while windows > 1:
        spans = np.minimum((ends_s / ends_s[-1] * windows).astype(int), windows - 1)
        if np.bincount(spans, minlength=windows).min() >= _LEAST_SAMPLES:
            break
        windows -= 1
    else:
        spans = np.zeros(len(ends_s), int)
    medians = tuple(float(np.median(end_to_end_ns[spans == span])) / 1e6 for span in range(windows))
    return OverTime(float(ends_s[-1]) / windows, medians)
