"""Whether a process may start, or the device has to cool down first. Two processes compare only if both began alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

NEAR_START_C = 3.0
WAIT_CAP_SECONDS = 600.0


@dataclass(frozen=True)
class Gate:
    """What has to hold before a process starts.

    Attributes:
        start_below_c: the hottest sensor; None: any temperature will do.
        pause_s: at least so long after the process before.
        cap_s: wait no longer than this, the pause included.
        near_c: later processes start at most so much hotter than the first.
    """

    start_below_c: float | None
    pause_s: float = 0.0
    cap_s: float = WAIT_CAP_SECONDS
    near_c: float = NEAR_START_C


class Decision(NamedTuple):
    """`start`; `wait` and ask again; or `too_hot`: the time is up. The reason is for the user, and for the record."""

    action: Literal["start", "wait", "too_hot"]
    reason: str


def decide(gate: Gate, *, waited_s: float, hottest_c: float | None, first_c: float | None) -> Decision:
    """Decide at one moment.

    Args:
        gate: what has to hold.
        waited_s: since the process before, or since the first was asked for.
        hottest_c: of all sensors now; None if the device does not tell.
        first_c: the same when the first process started; None before it.
    """
    if first_c is not None and waited_s < gate.pause_s:
        return Decision("wait", f"pause of {gate.pause_s:g} s")
    if gate.start_below_c is None or hottest_c is None:
        return Decision("start", "no limit is set" if gate.start_below_c is None else "the temperature is not told")
    limit = gate.start_below_c if first_c is None else min(gate.start_below_c, first_c + gate.near_c)
    if hottest_c <= limit:
        return Decision("start", f"{hottest_c:.1f} C, at most {limit:.1f} C")
    if waited_s < gate.cap_s:
        return Decision("wait", f"{hottest_c:.1f} C, waiting for {limit:.1f} C")
    reason = f"{hottest_c:.1f} C after {waited_s:.0f} s"
    if hottest_c > gate.start_below_c:
        return Decision("too_hot", f"{reason}, above {gate.start_below_c:g} C")
    return Decision("start", f"{reason}, warmer than the first start ({first_c:.1f} C)")
