"""Every target that the device can run: made, compared with torch, its AP and its latency there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekd.evidence import artifacts, machine, sources
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.export.contract import TargetSpec, step
from edgekd.export.targets import load_target
from edgekd.stages.export import export_stage
from edgekd.stages.on_device import profile_stage, validate_stage

BUILT_IN = (
    "tensorrt-fp16", "tensorrt-fp32", "tensorrt-int8", "onnx-fp32", "onnx-fp16", "onnx-int8", "openvino-fp16",
    "openvino-fp32", "openvino-int8", "litert-fp32", "litert-fp16", "litert-int8", "ncnn-fp16",
)  # fmt: skip
_NMS = ("tensorrt-fp16", "onnx-fp32", "openvino-fp32")  # tried with the NMS inside, where it runs
_WITH_NMS = ("edgekd.export.onnx_nms",)  # the module of that step
_GPU, _CPU, _AGAIN = 50, 90, 20  # values: where the hardware is, what any machine has, and the second look at one


@dataclass(frozen=True)
class Place:
    """A device as it is, or this machine with a runtime elsewhere than on its CPU.

    Attributes:
        label: behind the name of an experiment; empty for the device as it is.
        variant: keys of its file; None: the device's own.
        options: of the target's steps, such as another builder.
    """

    label: str
    runtimes: tuple[str, ...]
    variant: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    value: int = _CPU
    lacking: str | None = None


def offers(setting: Setting) -> Iterator[Experiment]:
    """For each target and place one that measures, and some with the NMS inside the graph."""
    for place in places(setting):
        names = setting.scale.targets or BUILT_IN
        for number, name in enumerate(one for one in names if load_target(one, {}, one).runtime in place.runtimes):
            arguments = {"target": name, "variant": place.variant, "options": dict(place.options)}
            lacking = place.lacking or cannot(name)
            yield Experiment(
                f"target {name}{place.label}", f"{name}{place.label}: parity, AP, latency", "target",
                place.value + number, 240, arguments, lacking, sources_of(name),
            )  # fmt: skip
            if name in _NMS or setting.scale.targets:
                yield Experiment(
                    f"nms in {name}{place.label}", f"{name}{place.label} with its NMS inside the graph", "target",
                    place.value + _AGAIN, 180, {**arguments, "nms": True}, lacking, sources_of(name, more=_WITH_NMS),
                )  # fmt: skip


def places(setting: Setting) -> list[Place]:
    """Where artifacts can run; what the machine has not, with the reason."""
    device = setting.machine["device"]
    usable = tuple(device["usable"])
    if not setting.here:
        value = _GPU
        found = [Place("", tuple(name for name in device["runtimes"] if name in usable), value=value)]
        if "tensorrt" in usable and device.get("programs", {}).get("trtexec"):
            found.append(Place(" by trtexec", ("tensorrt",), options=_TRTEXEC, value=_GPU + 10))
        return found
    own = tuple(name for name in device["runtimes"] if name in usable and name != "tensorrt")
    return [*_of_gpus(setting, usable), *_of_openvino(setting, usable), Place("", own)]


_TRTEXEC = {"tensorrt": {"builder": "trtexec"}}


def _of_gpus(setting: Setting, usable: tuple[str, ...]) -> Iterator[Place]:
    """TensorRT by both builders, and ONNX Runtime's providers for NVIDIA."""
    there, unusable = setting.machine, setting.machine["device"].get("unusable", {})
    why = None if "tensorrt" in usable else unusable.get("tensorrt", "tensorrt is not installed, or there is no GPU")
    variant: dict[str, Any] = {"name": "local-engines", "runtimes": ["tensorrt"]}
    yield Place(" on GPU", ("tensorrt",), variant, value=_GPU, lacking=why)
    program = None if there["programs"]["trtexec"] else "trtexec is not installed"
    yield Place(" on GPU by trtexec", ("tensorrt",), variant, _TRTEXEC, _GPU + 10, why or program)
    for short, provider in (("CUDA", "CUDAExecutionProvider"), ("TensorRT", "TensorrtExecutionProvider")):
        variant = _variant(short, "onnxruntime", provider)
        lacks = None if provider in there["onnxruntime_providers"] else f"ONNX Runtime here has no {provider}"
        if not there["gpus"]:
            lacks = "no GPU that torch sees"
        yield Place(f" in {short} provider", ("onnxruntime",), variant, value=_GPU + 2, lacking=lacks)


def _of_openvino(setting: Setting, usable: tuple[str, ...]) -> Iterator[Place]:
    for name in ("GPU", "NPU"):
        there = any(one.split(".")[0] == name for one in setting.machine["openvino_devices"])
        variant = _variant(name, "openvino", name)
        lacks = None if there and "openvino" in usable else f"OpenVINO sees no {name} here"
        yield Place(f" on {name}", ("openvino",), variant, value=_GPU + 4, lacking=lacks)


def _variant(name: str, runtime: str, provider: str) -> dict[str, Any]:
    """This machine with one runtime, elsewhere than on its CPU."""
    return {"name": f"local-{name.lower()}", "runtimes": [runtime], "providers": {runtime: [provider]}}


def cannot(target: str) -> str | None:
    """Why this machine cannot make a target."""
    return next((why for one in load_target(target, {}, target).steps if (why := step(one).missing())), None)


def sources_of(*targets: str, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The code that makes and runs them, by modules of further steps, too."""
    return tuple(file for name in targets for file in sources.of_target(load_target(name, {}, name), *more))


def fault(figures: Mapping[str, Any]) -> str | None:
    """Its detections are not the student's: that it ran shows nothing."""
    same = (figures.get("accuracy") or {}).get("same_model") or {}
    if same.get("passed") is not False:
        return None
    return (
        f"another model there: {same['share']:.1%} of the torch student's detections, at least {same['least']:.0%} are "
        "asked for"
    )


def run(work: Work) -> None:
    """At the size of the shipped weights for accuracy, then larger for time; what is known is kept at once."""
    target, given = work.arguments["target"], work.arguments
    entry = {"target": target, "options": given["options"], **({"nms": "in_graph"} if given.get("nms") else {})}
    device, scale = artifacts.device_file(work.setting, work.folder / "devices", given["variant"]), work.scale
    name = artifacts.device_name(device)
    with artifacts.student_run(scale, work.folder / "small", device, [entry], measured=True) as context:
        export_stage(context)
        work.keep(parity=artifacts.parity(context, target), size_mb=artifacts.size_mb(context, target))
        validate_stage(context)
        if work.setting.machine["device"]["has_agent"]:
            work.keep(accuracy=artifacts.accuracy(context, target, name))
        profile_stage(context)
        work.keep(**{f"latency_{scale.ap_px}_px": artifacts.latency(context, target, name)})
        ran = artifacts.runtime(context, target, name)
        work.keep(runtime=ran)
        if fault(work.figures) is None:
            _show(work, context.bound.targets[0], ran)
    if not given.get("nms"):
        _large(
            work,
            device,
            {**artifacts.calm(target), "options": _over(artifacts.calm(target)["options"], given["options"])},
        )


def _large(work: Work, device: str, entry: dict[str, Any]) -> None:
    """Time alone."""
    target, name, scale = entry["target"], artifacts.device_name(device), work.scale
    with artifacts.student_run(scale, work.folder / "large", device, [entry], measured=False) as context:
        export_stage(context)
        profile_stage(context)
        work.keep(**{f"latency_{scale.latency_px}_px": artifacts.latency(context, target, name)})


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    return {key: {**below.get(key, {}), **above.get(key, {})} for key in {**below, **above}}


def _show(work: Work, spec: TargetSpec, ran: Mapping[str, Any]) -> None:
    """The target, how it is reached, and the provider that ran it."""
    device = work.setting.machine["device"]
    providers = [str(one) for one in ran.get("providers") or ()]
    words = _words(work.setting.machine, ran)
    by = {str(ran["name"]): str(ran["version"])} if ran.get("version") else {}
    what = f"target {spec.name}{' with nms' if spec.nms == 'in_graph' else ''}"
    more = _WITH_NMS if spec.nms == "in_graph" else ()
    work.shows(what, words, sources.of_target(spec, *more), by)
    if work.arguments["variant"] is None:
        work.shows(f"device {device['name']}", words, sources.of_device(device["name"], device["transport"]), by)
    for provider in providers:
        work.shows(f"provider {spec.runtime} {provider}", words, sources.of_runtime(spec.runtime), by)


def _words(there: Mapping[str, Any], ran: Mapping[str, Any]) -> list[str]:
    """The place, what it ran on there, and the machine that made it, which is this one."""
    made_on = f"made on {there['system'].lower()} {there['machine']}"
    return [*machine.where(there), *(ran.get("providers") or ()), *(ran.get("accelerators") or ()), made_on]


register("target", offers, run, fault=fault)
