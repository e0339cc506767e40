"""Stages validate and profile: every artifact on every device that has its runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edgekd.atomic import read_json, write_json
from edgekd.devices import catalog, run_agent
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.hashing import digest
from edgekd.devices.patience import Patience
from edgekd.devices.unfinished import forget
from edgekd.export.contract import SIDECAR_NAME, Suppression, TargetSpec
from edgekd.measure.latency import Protocol, protocol_of
from edgekd.measure.latency_events import summarise_events
from edgekd.measure.throttling import Conditions
from edgekd.measure.withheld import is_lasting
from edgekd.progress import say
from edgekd.recipe.sections import ValidateRecipe
from edgekd.stages import timing_programs
from edgekd.stages.accuracy import Stopwatch, summarise, write_accuracy
from edgekd.stages.context import Context
from edgekd.stages.detection_agreement import refusal, refuse, same_model
from edgekd.stages.export import measured_size
from edgekd.stages.throughput import Load, say_throughput
from edgekd.types import Detections


def validate_stage(context: Context) -> None:
    """AP of each artifact on each device."""
    for target, device in pairs(context):
        inputs = validate_inputs(context, target, device)
        context.stage(f"validate/{target.name}@{device.name}", inputs, partial(_validate, context, target, device))


def profile_stage(context: Context, shared: Mapping[str, Patience] | None = None) -> None:
    """Latency of each artifact on each device; what a disturbance made invalid is measured again.

    Args:
        shared: by device, where several runs wait for it together; default: as `profile.wait` says, for this run.
    """
    wait_s = context.bound.recipe.profile.wait
    patience = shared or {spec.name: Patience(f"device {spec.name}", wait_s) for spec in context.bound.devices}
    for target, device in pairs(context):
        name = f"{target.name}@{device.name}"
        if context.anew or _was_disturbed(context.path / "profile" / f"{name}.json"):
            context.run.forget(f"profile/{name}")
        profile = partial(_profile, context, target, device, patience[device.name])
        context.stage(f"profile/{name}", profile_inputs(context, target, device), profile)


def _was_disturbed(summary: Path) -> bool:
    """Whether a profile, or a load of it, is invalid for a reason that another time may not have."""
    if not summary.is_file():
        return False
    content = read_json(summary)
    measured = [content, *content.get("throughput", [])]
    return any(not one["valid"] and not is_lasting(one["invalid_reasons"]) for one in measured)


def validate_inputs(context: Context, target: TargetSpec, device: DeviceSpec) -> dict[str, Any]:
    """What decides an accuracy."""
    inputs = {"artifact": _artifact_hash(context, target), "device": device.model_dump(mode="json")}
    inputs["validate"] = context.bound.recipe.validate_.model_dump()
    return inputs


def profile_inputs(context: Context, target: TargetSpec, device: DeviceSpec) -> dict[str, Any]:
    """What decides a latency, as far as a recipe does."""
    inputs = {"artifact": _artifact_hash(context, target), "device": device.model_dump(mode="json")}
    inputs["profile"] = context.bound.recipe.profile.model_dump(exclude={"wait"})
    inputs["refused"] = refusal(context, f"{target.name}@{device.name}")
    if (tool := device.tools.get(target.runtime)) and tool.push and tool.push.exists():
        inputs["program"] = digest(tool.push)
    return inputs


def pairs(context: Context) -> Iterator[tuple[TargetSpec, DeviceSpec]]:
    """Every (target, device) of the recipe where the device has the target's runtime."""
    for target in context.bound.targets:
        yield from ((target, device) for device in context.bound.devices if target.runtime in device.runtimes)


def _artifact_hash(context: Context, target: TargetSpec) -> str:
    return context.run.output_hash(f"export/{target.name}", f"export/{target.name}/{SIDECAR_NAME}")


def _validate(context: Context, target: TargetSpec, spec: DeviceSpec) -> list[str]:
    if not spec.has_agent:
        return timing_programs.no_accuracy(context, target, spec)
    watch, split = Stopwatch(), context.data.splits["val"]
    settings = _thresholds(context.bound.recipe.validate_, target, spec)
    pack = context.pack(measured_size(target, context))
    with catalog.open_device(spec, context.turn_seconds) as device:
        prediction = run_agent.predict(
            device, context.path / "export" / target.name, pack.npy_path,
            conf=settings.conf, iou=settings.iou, max_det=settings.max_det, threads=spec.threads,
        )  # fmt: skip
    found = [
        Detections(pack.restore(index, one.boxes_px), one.scores, one.class_ids)
        for index, one in enumerate(prediction.detections)
    ]
    head = context.pair.head
    summary = summarise(split, found, context.data.class_names, settings, head)
    name = f"{target.name}@{spec.name}"
    say(f"validate {name}: AP {summary['ap']:.4f}, AP50 {summary['ap50']:.4f}")
    summary["same_model"] = same_model(context, target, found)
    return write_accuracy(context.path, name, summary, split=split, found=found, seconds=watch.seconds())


def _thresholds(asked: ValidateRecipe, target: TargetSpec, device: DeviceSpec) -> ValidateRecipe:
    """The recipe's, or those of an NMS inside the graph where it lets less through; says so."""
    if target.nms == "outside":
        return asked
    inside = Suppression.model_validate(target.options.get("nms", {}))
    used = asked.model_copy(
        update={"conf": max(asked.conf, inside.conf), "max_det": min(asked.max_det, inside.max_det)}
    )
    if used != asked:
        say(
            f"validate {target.name}@{device.name}: its graph gives at most {inside.max_det} detections, above "
            f"{inside.conf:g}; AP sees no others"
        )
    return used


def _profile(context: Context, target: TargetSpec, spec: DeviceSpec, patience: Patience) -> list[str]:
    name, asked = f"{target.name}@{spec.name}", context.bound.recipe.profile
    protocol = protocol_of(asked.protocol, asked.sustained_minutes)
    artifact, lines = context.path / "export" / target.name, context.path / "profile" / f"{name}.jsonl"
    load = Load(asked.throughput, lines)
    if not spec.has_agent:
        if asked.throughput:
            say(f"profile {name}: throughput: not measured ({spec.name} runs no agent)")
        return _profile_alone(context, target, spec, protocol, lines)
    beside = lines.with_suffix(".tools.jsonl")
    pack = context.pack(measured_size(target, context))
    with catalog.open_device(spec, context.turn_seconds) as device:
        emulated = run_agent.emulation(device)
        if emulated:
            protocol = protocol.at_its_shortest()  # that it runs is all that this can show
        lanes = {} if emulated else timing_programs.lanes_beside(device, artifact, target, protocol, beside)
        events = run_agent.profile(
            device, artifact, pack.npy_path,
            protocol=protocol, threads=spec.threads, patience=patience, record=lines, keep=True,
        )  # fmt: skip
        under_load = load.measure(device, artifact, pack.npy_path, protocol, patience)
    load.done()
    conditions = Conditions(spec.stay_below_c, spec.power_mode, spec.says_emulated)
    summary = summarise_events(
        events, protocol=protocol, target=target.name, device=spec.name, conditions=conditions
    )  # fmt: skip
    summary["throughput"] = load.summarise(under_load, summary, protocol, conditions)
    refuse(refusal(context, name), summary, *summary["throughput"])
    write_json(lines.with_suffix(".json"), summary | lanes)
    forget(beside)
    _say_latency(name, summary)
    say_throughput(name, summary["throughput"])
    written = [f"profile/{path.name}" for path in (lines.with_suffix(".json"), lines, *load.records)]
    if not lanes:
        return written
    timing_programs.say_lanes(name, lanes)
    return [*written, f"profile/{beside.name}"]


def _profile_alone(
    context: Context, target: TargetSpec, spec: DeviceSpec, protocol: Protocol, lines: Path
) -> list[str]:
    """By the program of the target's runtime, where the agent does not run."""
    artifact = context.path / "export" / target.name
    with catalog.open_device(spec, context.turn_seconds) as device:
        summary = timing_programs.summary_alone(device, artifact, target, protocol, lines)
    write_json(lines.with_suffix(".json"), summary)
    timing_programs.say_lanes(lines.stem, summary)
    return [f"profile/{lines.stem}.json", f"profile/{lines.name}"]


def _say_latency(name: str, summary: Mapping[str, Any]) -> None:
    if not summary["valid"]:
        say(f"profile {name}: INVALID: {'; '.join(summary['invalid_reasons'])}")
        return
    whole = summary["latency_ms"]["end_to_end"]
    p90 = "too few samples" if whole["p90"] is None else f"{whole['p90']:.2f} ms"
    over_time = summary["over_time"]
    course = f"; {over_time['last_over_first']:.2f} times the beginning at the end" if over_time else ""
    say(f"profile {name}: median {whole['p50']:.2f} ms, p90 {p90}{course}")
    for note in summary["notes"]:
        say(f"profile {name}: note: {note}")
