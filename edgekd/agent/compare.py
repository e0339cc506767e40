# SPDX-License-Identifier: Apache-2.0
"""`compare`: two artifacts timed in one process, block by block in random order, beside a second copy of the first.

What disturbs a machine for longer than a round disturbs all three alike. The copy shows what is left: it should be as
fast as the original.
"""

from __future__ import annotations

import random
from argparse import Namespace
from collections import deque
from typing import Deque, Dict, List

import numpy as np

from .clock import now_ns, warm_up
from .pipeline import Pipeline, announce_end
from .profile import Loop, emit_telemetry
from .protocol import Writer, heartbeats
from .quiet import wait_for_quiet
from .telemetry import Contention, Sampler

VARIANTS = ("reference", "copy", "candidate")
# Before a block counts: caches have to fill, and threads that wake up share a core until the system spreads them, which
# takes tens of ms and passes of several times the usual length.
_LEAD_IN_PASSES, _LEAD_IN_CAP_SECONDS, _USUAL = 3, 0.08, 1.3
_LEAST_SAMPLES = 5


def compare(arguments: Namespace, writer: Writer) -> None:
    """Write a `block` event per variant and round (end-to-end ns, in order), in the order in which they ran."""
    wait_for_quiet(writer, arguments.quiet_seconds)
    order = random.Random(arguments.seed)
    opening = order.sample(VARIANTS, len(VARIANTS))  # the first model of a process is some half percent slower
    lanes = {variant: _Lane(_opened(variant, arguments, writer)) for variant in opening}
    for variant, lane in lanes.items():
        warmup = warm_up(
            lane.step, arguments.warmup_seconds, arguments.warmup_cap_seconds, lambda: writer.emit("heartbeat")
        )
        lane.usual_ns = warmup["window_medians_ns"][-1]
        writer.emit("warmup", variant=variant, **warmup)
    number, started = 0, now_ns()
    contention = Contention()
    with Sampler(arguments.telemetry_seconds, clock=now_ns) as sampler:
        while number < arguments.rounds or now_ns() - started < arguments.min_seconds * 1e9:
            for variant in order.sample(VARIANTS, len(VARIANTS)):
                samples = lanes[variant].block(arguments.block_seconds)
                writer.emit("block", variant=variant, round=number, end_to_end_ns=samples)
            number += 1
            emit_telemetry(writer, sampler)
        writer.emit("contention", **contention.take())
    emit_telemetry(writer, sampler)
    announce_end(writer)


def _opened(variant: str, arguments: Namespace, writer: Writer) -> Loop:
    changes: Dict[str, str] = {}
    if variant == "candidate":
        changes = {"artifact": arguments.candidate, "pack": arguments.candidate_pack or arguments.pack}
    own = Namespace(**{**vars(arguments), **changes})
    with heartbeats(writer, f"loading the {variant}"):
        pipeline = Pipeline(own)
    loop = Loop(pipeline, own)
    pipeline.announce(writer, variant=variant, images=len(loop.frames))
    loop.prepare()
    pipeline.announce_load(writer)
    return loop


class _Lane:
    """One of the three, block by block.

    Attributes:
        usual_ns: how long a pass took in the block before, or at the end of the warm-up.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.usual_ns = 0.0

    def step(self) -> int:
        """One pass, end to end, in ns."""
        return self._loop.step()["end_to_end_ns"]

    def block(self, seconds: float) -> List[int]:
        """Samples of a block, after its lead-in."""
        self._lead_in()
        samples: List[int] = []
        started = now_ns()
        while len(samples) < _LEAST_SAMPLES or now_ns() - started < seconds * 1e9:
            samples.append(self.step())
        self.usual_ns = float(np.median(samples))
        return samples

    def _lead_in(self) -> None:
        latest: Deque[int] = deque(maxlen=_LEAD_IN_PASSES)
        started = now_ns()
        while len(latest) < _LEAD_IN_PASSES or (
            max(latest) > _USUAL * self.usual_ns and now_ns() - started < _LEAD_IN_CAP_SECONDS * 1e9
        ):
            latest.append(self.step())
