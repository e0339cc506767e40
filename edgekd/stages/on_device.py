"""Stages validate and profile: every artifact on every device that has its runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from edgekd.atomic import write_json
from edgekd.devices import catalog, run_agent
from edgekd.devices.contract import DeviceSpec
from edgekd.export.contract import SIDECAR_NAME, Suppression, TargetSpec
from edgekd.measure.latency import protocol_of
from edgekd.measure.latency_events import summarise_events
from edgekd.measure.throttling import Conditions
from edgekd.progress import say
from edgekd.recipe.schema import ValidateRecipe
from edgekd.stages.accuracy import Stopwatch, summarise, write_accuracy
from edgekd.stages.context import Context
from edgekd.stages.export import measured_size
from edgekd.types import Detections


def validate_stage(context: Context) -> None:
    """AP of each artifact on each device."""
    for target, device in pairs(context):
        inputs = {"artifact": _artifact_hash(context, target), "device": device.model_dump(mode="json")}
        inputs["validate"] = context.bound.recipe.validate_.model_dump()
        context.stage(f"validate/{target.name}@{device.name}", inputs, partial(_validate, context, target, device))


def profile_stage(context: Context) -> None:
    """Latency of each artifact on each device."""
    for target, device in pairs(context):
        inputs = {"artifact": _artifact_hash(context, target), "device": device.model_dump(mode="json")}
        inputs["profile"] = context.bound.recipe.profile.model_dump()
        context.stage(f"profile/{target.name}@{device.name}", inputs, partial(_profile, context, target, device))


def pairs(context: Context) -> Iterator[tuple[TargetSpec, DeviceSpec]]:
    """Every (target, device) of the recipe where the device has the target's runtime."""
    for target in context.bound.targets:
        yield from ((target, device) for device in context.bound.devices if target.runtime in device.runtimes)


def _artifact_hash(context: Context, target: TargetSpec) -> str:
    return context.run.output_hash(f"export/{target.name}", f"export/{target.name}/{SIDECAR_NAME}")


def _validate(context: Context, target: TargetSpec, spec: DeviceSpec) -> list[str]:
    watch, split = Stopwatch(), context.data.splits["val"]
    settings = _thresholds(context.bound.recipe.validate_, target, spec)
    pack = context.pack(measured_size(target, context))
    with catalog.open_device(spec) as device:
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
    say(f"validate {target.name}@{spec.name}: AP {summary['ap']:.4f}, AP50 {summary['ap50']:.4f}")
    name = f"{target.name}@{spec.name}"
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


def _profile(context: Context, target: TargetSpec, spec: DeviceSpec) -> list[str]:
    name, asked = f"{target.name}@{spec.name}", context.bound.recipe.profile
    protocol = protocol_of(asked.protocol, asked.sustained_minutes)
    pack, lines = context.pack(measured_size(target, context)), context.path / "profile" / f"{name}.jsonl"
    with catalog.open_device(spec) as device:
        events = run_agent.profile(
            device, context.path / "export" / target.name, pack.npy_path,
            protocol=protocol, threads=spec.threads, record=lines,
        )  # fmt: skip
    summary = summarise_events(
        events, protocol=protocol, target=target.name, device=spec.name,
        conditions=Conditions(stay_below_c=spec.stay_below_c, power_mode=spec.power_mode),
    )  # fmt: skip
    write_json(lines.with_suffix(".json"), summary)
    _say_latency(name, summary)
    return [f"profile/{name}.json", f"profile/{name}.jsonl"]


def _say_latency(name: str, summary: Mapping[str, Any]) -> None:
    whole = summary["latency_ms"]["end_to_end"]
    p90 = "too few samples" if whole["p90"] is None else f"{whole['p90']:.2f} ms"
    valid = "" if summary["valid"] else f"  INVALID: {'; '.join(summary['invalid_reasons'])}"
    over_time = summary["over_time"]
    course = f"; {over_time['last_over_first']:.2f} times the beginning at the end" if over_time else ""
    say(f"profile {name}: median {whole['p50']:.2f} ms, p90 {p90}{course}{valid}")
