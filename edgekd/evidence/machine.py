"""What there is: this machine's GPUs, libraries and programs, and the device with its runtimes and sensors."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgekd import __version__
from edgekd.agent.runtimes import runtime_names
from edgekd.cores import usable_cores
from edgekd.devices import catalog
from edgekd.devices.contract import Device, DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.evidence import sensors
from edgekd.evidence.contract import Experiment, Setting, Work, register
from edgekd.training.engines.process import PACKAGES

_PACKAGES = (
    *PACKAGES, "torchvision", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "nncf",
    "tensorrt", "ncnn", "ai-edge-litert", "hotcoco", "scikit-learn", "scikit-image", "pytest", "triton",
)  # fmt: skip
_PROGRAMS = ("nvidia-smi", "trtexec", "gcc", "g++")
_EMULATED = "emulated"


def look(work: Work) -> None:
    """Figures that other experiments are chosen by; no experiment itself.

    Raises:
        DeviceFault: the device cannot be reached.
    """
    spec = catalog.load(work.setting.device)
    work.keep(
        edgekd=__version__,
        system=platform.system(),
        release=platform.release(),
        machine=platform.machine(),
        python=platform.python_version(),
        cores=usable_cores(),
        memory_gb=_memory_gb(),
        versions=_versions(),
        programs={name: shutil.which(name) is not None for name in _PROGRAMS},
        gpus=_gpus(),
        driver=sensors.driver(),
        cuda=_cuda(),
        onnxruntime_providers=_providers(),
        openvino_devices=_openvino_devices(),
    )
    with catalog.open_device(spec) as device:
        work.keep(device=_device(device))


def nothing(setting: Setting) -> Iterable[Experiment]:
    """It is always done, and first."""
    return ()


def title(machine: Mapping[str, Any]) -> str:
    """What people call it: the GPU, the board, or the processor."""
    device = machine["device"]
    told = device.get("platform", {})
    if device["transport"] == "local" and machine["gpus"]:
        return str(machine["gpus"][0]["name"])
    board = told.get("board")
    return str(board or told.get("cpu_model") or f"{device['facts']['system']} {device['facts']['machine']}").strip()


def where(machine: Mapping[str, Any]) -> list[str]:
    """Words of the place where artifacts run."""
    device = machine["device"]
    told = device.get("platform", {})
    system = "android" if device["transport"] == "adb" else str(device["facts"]["system"]).lower()
    words = [system, str(told.get("machine") or device["facts"]["machine"])]
    return [*words, *([_EMULATED] if told.get("emulated") or device["says_emulated"] else [])]


def _device(device: Device) -> dict[str, Any]:
    spec, facts = device.spec, device.facts()
    found: dict[str, Any] = {
        "name": spec.name, "transport": spec.transport, "has_agent": spec.has_agent, "runtimes": list(spec.runtimes),
        "providers": {name: list(asked) for name, asked in spec.providers.items()}, "tools": sorted(spec.tools),
        "says_emulated": spec.says_emulated,
        "facts": {name: facts.get(name) for name in ("system", "release", "machine", "cores")},
    }  # fmt: skip
    return found | (_by_agent(device, spec) if spec.has_agent else {"usable": dict.fromkeys(spec.runtimes)})


def _by_agent(device: Device, spec: DeviceSpec) -> dict[str, Any]:
    """What the agent says: of itself, of every runtime, and of what there is to read."""
    told = ask(device, "doctor")
    usable, unusable = {}, {}
    for name in runtime_names():
        try:
            one = ask(device, "doctor", "--runtime", name)["runtime"]
        except DeviceFault as fault:
            if fault.kind != "crashed":
                raise
            one = {"unusable": "kills the process that imports it", "version": None}
        if one["unusable"] is None:
            usable[name] = one["version"]
        elif name in spec.runtimes:
            unusable[name] = one["unusable"]
    state = ask(device, "state")
    absent = state["telemetry"].get("absent", {})
    return {
        "python": told["python"], "libraries": told["libraries"],
        "programs": {name: bool(place) for name, place in told["programs"].items()},
        "usable": usable, "unusable": unusable, "platform": _known(state["platform"]),
        "sensors": {name: name not in absent for name in state["telemetry"] if name != "absent"},
    }  # fmt: skip


def ask(device: Device, *arguments: str) -> dict[str, Any]:
    """The first event of a short run of the agent."""
    events: list[dict[str, Any]] = []
    device.run(arguments, events.append)
    return events[0]


def _known(platform_facts: Mapping[str, Any]) -> dict[str, Any]:
    names = ("machine", "system", "python", "board", "cpu_model", "emulated", "cores_online")
    return {name: platform_facts.get(name) for name in names}


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    made = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [
        {
            "name": one.name, "memory_gb": round(one.total_memory / 1e9, 1),
            "compute_capability": f"{one.major}.{one.minor}", "sm_count": one.multi_processor_count,
        }
        for one in made
    ]  # fmt: skip


def _cuda() -> str | None:
    import torch

    return torch.version.cuda


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _openvino_devices() -> list[str]:
    try:
        import openvino

        return list(openvino.Core().available_devices)
    except Exception:  # not installed, or a plugin that cannot be loaded: none
        return []


register("look", nothing, look)
