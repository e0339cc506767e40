"""Is a candidate less accurate than its reference by more than a margin? By the interval of the AP difference."""

from __future__ import annotations

from typing import Literal

from edgekd.measure.bootstrap import Interval

Status = Literal["pass", "fail", "inconclusive"]


def judge(difference: Interval, margin: float) -> tuple[Status, str]:
    """The verdict and its line.

    Args:
        difference: AP(candidate) - AP(reference), paired over images.
        margin: AP that may be lost, e.g. 0.005.
    """
    shown = f"AP difference {difference.estimate:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    if difference.low > -margin:
        return "pass", f"{shown}: loses at most the margin of {margin:g}"
    if difference.high < -margin:
        return "fail", f"{shown}: loses more than the margin of {margin:g}"
    half_width = (difference.high - difference.low) / 2
    more = f"; the interval is {half_width / margin:.1f} margins wide to each side, take more images"
    return "inconclusive", f"{shown}: the margin of {margin:g} lies inside{more if half_width > margin else ''}"
