"""Drives a timing program on a device on which the agent does not run, or beside the agent: fresh processes, lane after
lane, each with the device's state before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.atomic import read_json
from edgekd.devices.contract import Device
from edgekd.devices.cool_down import CoolDown, pause_of
from edgekd.devices.faults import DeviceFault
from edgekd.devices.hashing import digest
from edgekd.devices.tools import spec as names
from edgekd.devices.tools.bench import Bench, bench
from edgekd.devices.tools.programs import PROGRAMS, Program
from edgekd.devices.tools.state import state
from edgekd.devices.unfinished import Unfinished
from edgekd.errors import EnvironmentFault
from edgekd.measure.latency import Protocol
from edgekd.measure.telemetry import hottest_c
from edgekd.progress import progress

Event = dict[str, Any]


def profile_by_tool(
    device: Device, artifact: Path, *, protocol: Protocol, record: Path | None = None, keep: bool = False
) -> dict[str, list[list[Event]]]:
    """Time an artifact with the program of its runtime.

    Args:
        artifact: folder with the model and its sidecar.
        protocol: how long, how often.
        record: where to write every event; what finished processes gave is kept beside it until then, and the same call
            goes on behind them.
        keep: see `Unfinished.finish`.

    Returns:
        lane -> the events of each of its processes: a `thermal_gate` where the device has a limit, then a `tool`.

    Raises:
        DeviceFault: the program is missing, failed, or was not understood; the device failed.
    """
    runtime = read_json(artifact / "edgekd.json")["runtime"]
    tool, program = device.spec.tools[runtime], PROGRAMS[runtime]
    name, lanes = names.PROGRAMS[runtime], program.lanes(tool)
    about: dict[str, Any] = {"tool": tool.model_dump(mode="json"), "device": device.spec.model_dump(mode="json")}
    about |= {"protocol": asdict(protocol), "version": __version__, "artifact": digest(artifact)}
    about |= {"program": digest(tool.push)} if tool.push and tool.push.exists() else {}
    unfinished = Unfinished(record, about)
    order = [lane for lane in lanes for _ in range(protocol.min_processes)]
    kept = len(unfinished.processes)
    with progress(f"profile {artifact.name}@{device.spec.name} by {name}", len(order), done=kept) as advance:
        advance(0, "kept from before" if kept else "")
        if kept < len(order):
            policies = state(device)["policies"]
            cool_down = CoolDown(device, pause_of(protocol), partial(advance, 0), partial(_hottest_c, device))
            with bench(device, artifact, name, program.path, tool, protocol, policies) as where:
                require_fitting(program, where)
                for lane in order[kept:]:
                    unfinished.add([*cool_down.wait(), _one_process(where, program, lane)])
                    advance(1, lane)
    unfinished.finish(keep=keep)
    return {
        lane: [events for own, events in zip(order, unfinished.processes, strict=True) if own == lane] for lane in lanes
    }


def require_fitting(program: Program, where: Bench) -> None:
    """Refuse an artifact that the program cannot open.

    Raises:
        DeviceFault: why.
    """
    problem = None
    if where.model.suffix != program.suffix:
        problem = f"opens {program.suffix}, not {where.model.name}"
    elif where.sidecar["runtime"] in names.FIXED_SHAPE and None in where.sidecar["input_shape"]:
        problem = "makes inputs of fixed shapes alone; export the target with a fixed batch and size"
    if problem:
        raise DeviceFault("incomplete", f"device {where.device.spec.name}: {where.name}: {problem}")


def _one_process(where: Bench, program: Program, lane: str) -> Event:
    before = state(where.device)
    try:
        once = program.time(where, lane)
    except DeviceFault:
        raise
    except EnvironmentFault as fault:  # of a parser, which knows no device
        raise DeviceFault("crashed", f"device {where.device.spec.name}: {fault.problems[0]}") from fault
    except (ValueError, RecursionError) as error:  # what it says looks like its figures, and is none
        said = f"{where.name}: what it said cannot be read ({error}); run it again"
        raise DeviceFault("crashed", f"device {where.device.spec.name}: {said}") from error
    return {
        "event": "tool", "lane": lane, "timing": asdict(once.timing), "power_log": once.power_log,
        "before": before, "after": state(where.device), "environment": _environment(where),
    }  # fmt: skip


def _environment(where: Bench) -> Mapping[str, Any]:
    facts = where.device.facts()
    return {
        "platform": {key: facts.get(key) for key in ("system", "release", "machine", "cores")},
        "program": where.program, "runtime": where.sidecar["runtime"], "precision": where.sidecar["precision"],
        "threads": where.threads, "affinity": " ".join(where.words_before) or None,
        "model_sha256": where.model_sha256,
    }  # fmt: skip


def _hottest_c(device: Device) -> float | None:
    return hottest_c(state(device)["temperatures_c"])
