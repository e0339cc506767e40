"""Drives the agent's `compare`: one fresh process in which reference, its copy and candidate run interleaved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.devices import run_agent
from edgekd.devices.contract import Device
from edgekd.devices.patience import Patience
from edgekd.errors import EnvironmentFault
from edgekd.measure.paired_latency import FloatArray, round_log_ratios

Event = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """An artifact folder and a pack of images of its size."""

    artifact: Path
    pack: Path


@dataclass(frozen=True)
class Rounds:
    """How a process spends its time.

    Attributes:
        least: rounds, with one block of each of the three.
        seconds: go on for at least.
        block_seconds: least length of a block.
    """

    least: int = 10
    seconds: float = 4.0
    block_seconds: float = 0.02


def one_process(
    device: Device,
    reference: Side,
    candidate: Side,
    *,
    rounds: Rounds,
    seed: int,
    threads: int | None = None,
    patience: Patience | None = None,
) -> list[Event]:
    """Events of one process.

    Args:
        patience: as in `run_agent.profile`.

    Raises:
        EnvironmentFault: the agent failed.
    """
    arguments = run_agent.arguments_of("compare", device, reference.artifact, reference.pack, threads)
    arguments += ["--candidate", device.push(candidate.artifact), "--candidate-pack", device.push(candidate.pack)]
    arguments += ["--rounds", str(rounds.least), "--min-seconds", str(rounds.seconds), "--seed", str(seed)]
    arguments += ["--block-seconds", str(rounds.block_seconds)]
    if device.spec.telemetry_seconds is not None:
        arguments += ["--telemetry-seconds", str(device.spec.telemetry_seconds)]
    arguments += patience.arguments() if patience else []
    events: list[Event] = []
    device.run(arguments, events.append)
    if patience:
        patience.use(events)
    return events


def log_ratios(events: Sequence[Mapping[str, Any]]) -> dict[str, FloatArray]:
    """Per round, the logarithm of the ratio to the reference, of `candidate` and of `copy`.

    Raises:
        EnvironmentFault: a block is missing.
    """
    blocks: dict[str, dict[int, Any]] = {"reference": {}, "copy": {}, "candidate": {}}
    for event in events:
        if event["event"] == "block":
            blocks[event["variant"]][event["round"]] = np.asarray(event["end_to_end_ns"], np.int64)
    rounds = sorted(blocks["reference"])
    if not rounds or any(sorted(found) != rounds for found in blocks.values()):
        raise EnvironmentFault("agent compare: blocks are missing from what it wrote; run it again")
    reference = [blocks["reference"][number] for number in rounds]
    return {
        variant: round_log_ratios(reference, [blocks[variant][number] for number in rounds])
        for variant in ("candidate", "copy")
    }
