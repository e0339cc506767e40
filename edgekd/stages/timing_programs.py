"""Stages validate and profile where a timing program stands in for the agent, or runs beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import write_json
from edgekd.devices.contract import Device, DeviceSpec
from edgekd.devices.tools.drive import profile_by_tool
from edgekd.devices.tools.record import summarise_lanes
from edgekd.devices.tools.spec import PROGRAMS
from edgekd.export.contract import TargetSpec
from edgekd.measure.latency import Protocol
from edgekd.measure.throttling import Conditions
from edgekd.measure.withheld import unless_emulated
from edgekd.progress import say
from edgekd.report.lanes import words
from edgekd.stages.context import Context

NOT_MEASURED = "not measured"
_FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "operating_point")


def why_not_measured(target: TargetSpec, spec: DeviceSpec) -> str:
    """Why there is no AP of a target on a device without the agent."""
    return f"{spec.name} runs no agent, and {PROGRAMS[target.runtime]} times, but gives no detections"


def no_accuracy(context: Context, target: TargetSpec, spec: DeviceSpec) -> list[str]:
    """Write down that there is no AP, and why; what an agent there once measured is gone."""
    name, why = f"{target.name}@{spec.name}", why_not_measured(target, spec)
    folder = context.path / "validate"
    (folder / f"{name}.detections.jsonl").unlink(missing_ok=True)
    write_json(folder / f"{name}.json", {
        "schema": "edgekd.accuracy/1", "model": target.name, "device": spec.name, "accuracy": NOT_MEASURED,
        "reason": why, **dict.fromkeys(_FIGURES), "per_class": {}, "images": None,
    })  # fmt: skip
    say(f"validate {name}: accuracy: {NOT_MEASURED} ({why})")
    return [f"validate/{name}.json"]


def summary_alone(
    device: Device, artifact: Path, target: TargetSpec, protocol: Protocol, record: Path, *, keep: bool = False
) -> dict[str, Any]:
    """The latency summary of a target by the program of its runtime; its figures are of inference alone."""
    spec = device.spec
    protocol = protocol.at_its_shortest() if spec.says_emulated else protocol
    found = profile_by_tool(device, artifact, protocol=protocol, record=record, keep=keep)
    conditions = Conditions(spec.stay_below_c, spec.power_mode, spec.says_emulated, device.facts().get("machine"))
    summary = summarise_lanes(
        found, protocol=protocol, target=target.name, device=spec.name, conditions=conditions, size=_size(target)
    )
    return unless_emulated(summary, spec.says_emulated)


def lanes_beside(
    device: Device, artifact: Path, target: TargetSpec, protocol: Protocol, record: Path
) -> dict[str, Any]:
    """What the device's tool adds to a summary of the agent: `lanes`, where it has a tool for the target's runtime.

    What was measured is kept until `forget(record)`, so that a fault of the agent costs nothing of it.
    """
    if target.runtime not in device.spec.tools:
        return {}
    return {"lanes": summary_alone(device, artifact, target, protocol, record, keep=True)["lanes"]}


def say_lanes(name: str, summary: Mapping[str, Any]) -> None:
    """One line per lane on standard error."""
    for lane in summary.get("lanes") or [summary]:
        say(f"profile {name}: {words(lane)}")


def _size(target: TargetSpec) -> str | None:
    return f"batch {target.batch}" if isinstance(target.batch, int) and target.batch > 1 else None
