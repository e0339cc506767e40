"""The second half of the profile stage: several streams, or whole batches, in the session of the single stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.devices import run_agent
from edgekd.devices.contract import Device
from edgekd.devices.patience import Patience
from edgekd.devices.unfinished import forget
from edgekd.measure.latency import Protocol
from edgekd.measure.throttling import Conditions
from edgekd.measure.throughput import summarise_throughput
from edgekd.progress import say
from edgekd.recipe.sections import ThroughputRecipe
from edgekd.report.throughput import batch_of, words


@dataclass
class Load:
    """What the recipe asks for of one artifact on one device.

    Args:
        lines: where the events of the single stream go; those under load go beside them.
    """

    asked: Sequence[ThroughputRecipe]
    lines: Path

    def measure(
        self, device: Device, artifact: Path, pack: Path, protocol: Protocol, patience: Patience
    ) -> list[list[list[run_agent.Event]]]:
        """Events per entry and process. What ended is kept until `done`, for the same call to go on behind it."""
        return [
            run_agent.throughput(
                device, artifact, pack, streams=one.streams, batch=one.batch, protocol=protocol,
                threads=device.spec.threads, patience=patience, record=record, keep=True,
            )
            for one, record in zip(self.asked, self.records, strict=True)
        ]  # fmt: skip

    def summarise(
        self,
        events: Sequence[Sequence[Sequence[run_agent.Event]]],
        single: Mapping[str, Any],
        protocol: Protocol,
        conditions: Conditions,
    ) -> list[dict[str, Any]]:
        """Entries of `throughput`, beside the summary of the single stream."""
        mean_ms = single["latency_ms"]["end_to_end"]["mean"] if single["valid"] else None
        alone = 1e3 * (batch_of(single) or 1) / mean_ms if mean_ms else None
        return [
            summarise_throughput(
                one, protocol=protocol, target=single["target"], device=single["device"], conditions=conditions,
                single_stream_per_second=alone,
            )
            for one in events
        ]  # fmt: skip

    @property
    def records(self) -> list[Path]:
        """Raw events per entry, e.g. `onnx-fp32@local.streams-4.batch-8.jsonl`."""
        batches = [f".batch-{one.batch}" if one.batch else "" for one in self.asked]
        names = [f".streams-{one.streams}{batch}.jsonl" for one, batch in zip(self.asked, batches, strict=True)]
        return [self.lines.with_suffix(name) for name in names]

    def done(self) -> None:
        """Everything is measured: the same call begins anew."""
        for record in (self.lines, *self.records):
            forget(record)


def say_throughput(name: str, entries: Sequence[Mapping[str, Any]]) -> None:
    """One line per entry on standard error."""
    for entry in entries:
        say(f"profile {name}: {words(entry)}")
