# SPDX-License-Identifier: Apache-2.0
"""Waits for a quiet machine before a model is opened: others use little of the cores, or the time is up."""

from __future__ import annotations

import time
from typing import Callable, Optional

from .protocol import Writer
from .telemetry import Contention

QUIET_SHARE = 0.1  # of the cores' time, for others and the host of a virtual machine together
_FIRST_LOOK_S, _LOOK_S = 0.5, 2.0


def wait_for_quiet(
    writer: Writer,
    cap_s: float,
    watch: Optional[Contention] = None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write a `busy` event per look at a machine that is not quiet, and `quiet` at the end; 0: do not even look.

    `quiet` says whether it is (null: not known), `waited_s`, and `others_share` of the cores at the last look.
    """
    if cap_s <= 0:
        return
    watch = watch or Contention()
    waited_s = 0.0
    look_s = _FIRST_LOOK_S
    while True:
        sleep(min(look_s, cap_s - waited_s))
        span = watch.take()
        waited_s = round(waited_s + span["wall_ns"] / 1e9, 3)
        if span["others_ns"] is None or not span["cores"]:
            writer.emit("quiet", quiet=None, waited_s=waited_s, others_share=None)
            return
        taken_ns = span["others_ns"] + (span["stolen_ns"] or 0)
        share = round(taken_ns / (span["wall_ns"] * span["cores"]), 3)
        if share <= QUIET_SHARE or waited_s >= cap_s:
            writer.emit("quiet", quiet=share <= QUIET_SHARE, waited_s=waited_s, others_share=share)
            return
        writer.emit("busy", waited_s=waited_s, others_share=share)
        look_s = _LOOK_S
