# SPDX-License-Identifier: Apache-2.0
"""`compare`: two artifacts timed in one process, block by block in random order, beside a second copy of the first.

What disturbs a machine for longer than a round disturbs all three alike. The copy shows what is left: it should be as
fast as the original.
"""

from __future__ import annotations

import random
from argparse import Namespace
from typing import Dict, List

from .clock import now_ns, warm_up
from .pipeline import Pipeline, announce_end
from .profile import Loop, emit_telemetry
from .protocol import Writer, heartbeats
from .telemetry import Sampler

VARIANTS = ("reference", "copy", "candidate")
_LEAD_IN = 3  # passes before a block counts: caches and idling threads of the one before have to give way
_LEAST_SAMPLES = 5


def compare(arguments: Namespace, writer: Writer) -> None:
    """Write a `block` event per variant and round (end-to-end ns, in order), in the order in which they ran."""
    loops = {variant: _opened(variant, arguments, writer) for variant in VARIANTS}
    for variant, loop in loops.items():
        warmup = warm_up(
            lambda timed=loop: timed.step()["end_to_end_ns"],  # type: ignore[misc]
            arguments.warmup_seconds,
            arguments.warmup_cap_seconds,
            lambda: writer.emit("heartbeat"),
        )
        writer.emit("warmup", variant=variant, **warmup)
    order = random.Random(arguments.seed)
    with Sampler(arguments.telemetry_seconds, clock=now_ns) as sampler:
        for number in range(arguments.rounds):
            for variant in order.sample(VARIANTS, len(VARIANTS)):
                samples = _block(loops[variant], arguments.block_seconds)
                writer.emit("block", variant=variant, round=number, end_to_end_ns=samples)
            emit_telemetry(writer, sampler)
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


def _block(loop: Loop, seconds: float) -> List[int]:
    for _ in range(_LEAD_IN):
        loop.step()
    samples: List[int] = []
    started = now_ns()
    while len(samples) < _LEAST_SAMPLES or now_ns() - started < seconds * 1e9:
        samples.append(loop.step()["end_to_end_ns"])
    return samples
