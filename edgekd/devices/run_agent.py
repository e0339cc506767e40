"""Drives the agent on any device: `predict` for detections, `profile` for latency samples, `throughput` under load."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.agent.protocol import unpack_array
from edgekd.atomic import read_json
from edgekd.devices.contract import Device, DeviceSpec
from edgekd.devices.cool_down import CoolDown, pause_of
from edgekd.devices.hashing import digest
from edgekd.devices.patience import Patience
from edgekd.devices.unfinished import Unfinished
from edgekd.errors import EnvironmentFault, InputError, unknown
from edgekd.measure.latency import PROTOCOLS, Protocol
from edgekd.progress import progress
from edgekd.types import Detections

Event = dict[str, Any]

# Waiting that is not part of what makes a run valid: at most so long for a steady state.
_WARMUP_CAP_SECONDS = {"quick": 4.0, "full": 30.0}
_BAR_UNITS = 100


@dataclass(frozen=True)
class Prediction:
    """What an artifact finds on a device.

    Attributes:
        detections: per image of the pack, boxes in pixels of the *letterboxed* image.
        environment: the agent's environment record.
        load: the agent's load record (`load_ms`, `first_inference_ms`).
        seconds: from the start of the agent to its last line.
    """

    detections: list[Detections]
    environment: Event
    load: Event
    seconds: float


def predict(
    device: Device,
    artifact: Path,
    pack: Path,
    *,
    conf: float,
    iou: float,
    max_det: int,
    threads: int | None = None,
    batch: int | None = None,
) -> Prediction:
    """Run an artifact over a pack of letterboxed images.

    Args:
        artifact: folder with the model and its sidecar.
        pack: `.npy` of (N, H, W, C) uint8.
        conf, iou, max_det: thresholds of score and NMS, and detections per image.
        threads: inference threads; default: the device's, else all cores that this process may use.
        batch: for an artifact with a dynamic batch; default 1.

    Raises:
        EnvironmentFault: the agent failed, or did not answer for every image.
    """
    arguments = arguments_of("predict", device, artifact, pack, threads)
    arguments += ["--conf", str(conf), "--iou", str(iou), "--max-det", str(max_det)]
    arguments += ["--batch", str(batch)] if batch else []
    found: list[Detections] = []
    records: dict[str, Event] = {}

    with progress(f"predict {artifact.name}@{device.spec.name}", _images_in(pack)) as advance:

        def on_event(event: Event) -> None:
            if event["event"] == "detections":
                found.append(_detections(event, len(found)))
                advance()
            else:
                records[event["event"]] = event

        started = time.monotonic()
        device.run(arguments, on_event)
        seconds = time.monotonic() - started
    images = records.get("environment", {}).get("images")
    if images != len(found):
        raise EnvironmentFault(f"device {device.spec.name}: agent predict: {len(found)} answers for {images} images")
    return Prediction(found, records["environment"], records["load"], seconds)


def profile(
    device: Device,
    artifact: Path,
    pack: Path,
    *,
    protocol: str | Protocol,
    threads: int | None = None,
    frame_px: tuple[int, int] = (480, 640),
    settings: Sequence[str] = (),
    patience: Patience | None = None,
    record: Path | None = None,
    keep: bool = False,
) -> list[list[Event]]:
    """Time an artifact in fresh processes, one after the other.

    Args:
        artifact, pack, threads: as in `predict`.
        protocol: `quick`, `full`, or one of your own.
        frame_px: (height, width) of the camera frame that pre-processing starts from.
        settings: further arguments of the agent, e.g. `["--conf", "0.25"]`.
        patience: how long to wait for a quiet device, used up by all that share it; default: not at all.
        record: where to write every event of every process, in order, as JSON lines; written when all have ended.
            Until then, those of finished processes are kept beside it, and the same call goes on behind them.
        keep: they stay there until `unfinished.forget`: this is a part of a measurement that goes on.

    Returns:
        the events per process.

    Raises:
        InputError: unknown protocol.
        EnvironmentFault: a process failed; `record` is not written then.
    """
    arguments = arguments_of("profile", device, artifact, pack, threads)
    arguments += ["--frame", f"{frame_px[0]}x{frame_px[1]}", *settings]
    return _processes(device, artifact, pack, arguments, protocol, patience, record, keep)


def throughput(
    device: Device,
    artifact: Path,
    pack: Path,
    *,
    streams: int,
    batch: int | None = None,
    protocol: str | Protocol,
    threads: int | None = None,
    frame_px: tuple[int, int] = (480, 640),
    settings: Sequence[str] = (),
    patience: Patience | None = None,
    record: Path | None = None,
    keep: bool = False,
) -> list[list[Event]]:
    """Let several streams work at once on an artifact, in fresh processes, one after the other.

    Args:
        streams: at once; the threads are shared among them.
        batch: images per inference; default: the artifact's fixed one, else 1.

    All else as in `profile`.
    """
    arguments = arguments_of("throughput", device, artifact, pack, threads)
    arguments += ["--streams", str(streams), *(["--batch", str(batch)] if batch else [])]
    arguments += ["--frame", f"{frame_px[0]}x{frame_px[1]}", *settings]
    return _processes(device, artifact, pack, arguments, protocol, patience, record, keep)


def _processes(
    device: Device,
    artifact: Path,
    pack: Path,
    arguments: list[str],
    protocol: str | Protocol,
    patience: Patience | None,
    record: Path | None,
    keep: bool,
) -> list[list[Event]]:
    """Events of as many processes as the protocol asks for; see `profile`."""
    rules = _rules(protocol)
    cap_s = _WARMUP_CAP_SECONDS.get(rules.name, 5 * rules.warmup_seconds)
    for name, value in (
        ("--warmup-seconds", rules.warmup_seconds),
        ("--warmup-cap-seconds", cap_s),
        ("--min-seconds", rules.min_seconds),
        ("--min-count", rules.min_count),
    ):
        arguments += [name, str(value)]
    if device.spec.telemetry_seconds is not None:
        arguments += ["--telemetry-seconds", str(device.spec.telemetry_seconds)]
    about = {"arguments": arguments, "device": device.spec.model_dump(mode="json"), "version": __version__}
    about |= {"artifact": digest(artifact), "pack": digest(pack)} if record else {}
    unfinished = Unfinished(record, about)
    title = f"{arguments[0]} {artifact.name}@{device.spec.name}"
    kept = len(unfinished.processes)
    with progress(title, rules.min_processes * _BAR_UNITS, done=kept * _BAR_UNITS) as advance:
        cool_down = CoolDown(device, pause_of(rules), partial(advance, 0))
        advance(0, "kept from before" if kept else "")
        for number in range(kept + 1, rules.min_processes + 1):
            held_back = cool_down.wait()
            wait = patience.arguments() if patience else []
            events = _one_process(device, [*arguments, *wait], rules, advance, f"process {number}")
            unfinished.add(held_back + events)
            if patience:
                patience.use(events)
    unfinished.finish(keep)
    return unfinished.processes


def _one_process(
    device: Device, arguments: list[str], rules: Protocol, advance: Callable[..., None], note: str
) -> list[Event]:
    events: list[Event] = []
    shown, sampled_ns, count = 0, 0, 0

    def on_event(event: Event) -> None:
        nonlocal shown, sampled_ns, count
        events.append(event)
        if event["event"] == "busy":
            advance(0, f"{note}: waiting for a quiet device ({event['others_share']:.0%} of its cores are in use)")
            return
        if event["event"] == "samples":
            sampled_ns += sum(event["end_to_end_ns"])
            count += len(event["end_to_end_ns"])
        elif event["event"] == "completions" and event["ended_ns"]:
            sampled_ns = event["ended_ns"][-1]
            count += len(event["ended_ns"])
        share = min(sampled_ns / 1e9 / rules.min_seconds, count / rules.min_count, 1.0)
        units = int(share * _BAR_UNITS)
        advance(units - shown, note)
        shown = units

    device.run(arguments, on_event)
    advance(_BAR_UNITS - shown, note)
    return events


def emulation(device: Device) -> str | None:
    """What says that a program plays the device's processor, in words; None: nothing does.

    Raises:
        DeviceFault: it does not answer.
    """
    if device.spec.says_emulated or not device.spec.has_agent:
        return device.spec.says_emulated
    events: list[Event] = []
    device.run(["state"], events.append)
    found: str | None = (events[0].get("platform") or {}).get("emulated")
    return found


def arguments_of(command: str, device: Device, artifact: Path, pack: Path, threads: int | None) -> list[str]:
    """The agent's command line up to what every command takes; pushes artifact and pack."""
    threads = threads or device.spec.threads or device.facts()["cores"] or 1
    return [
        command, "--artifact", device.push(artifact), "--pack", device.push(pack), "--threads", str(threads),
        *_where(device.spec, artifact),
    ]  # fmt: skip


def _where(spec: DeviceSpec, artifact: Path) -> list[str]:
    """What the device says of where the artifact's runtime has to run it."""
    if not spec.providers:
        return []
    names = spec.providers.get(read_json(artifact / "edgekd.json").get("runtime"), ())
    options = {name: dict(spec.provider_options[name]) for name in names if name in spec.provider_options}
    arguments = [word for name in names for word in ("--provider", name)]
    return [*arguments, *(["--provider-options", json.dumps(options)] if options else [])]


def _rules(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"profile.protocol: {unknown('protocol', protocol, PROTOCOLS)}; choose one of these")
    return PROTOCOLS[protocol]


def _detections(event: Event, expected: int) -> Detections:
    if event["index"] != expected:
        raise EnvironmentFault(f"agent predict: image {event['index']} came where {expected} was due; run it again")
    return Detections(unpack_array(event["boxes_px"]), unpack_array(event["scores"]), unpack_array(event["class_ids"]))


def _images_in(pack: Path) -> int:
    import numpy as np

    return len(np.load(pack, mmap_mode="r", allow_pickle=False))
