"""A run whose student has the shipped weights: exported, validated and profiled by the ordinary stages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from edgekd.atomic import read_json, write_text
from edgekd.evidence.contract import Setting
from edgekd.evidence.scale import Scale
from edgekd.evidence.shipped import MODEL, weights
from edgekd.export.int8_options import Int8Options
from edgekd.export.targets import load_target
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.quantization_images import int8_options
from edgekd.stages.train import given_stage

Json = dict[str, Any]
_LATENCY = (
    "protocol", "processes", "latency_ms", "first_inference_ms", "load_ms", "build_ms", "peak_memory_mb", "spread",
    "energy_mj_per_inference", "energy", "temperature_c", "throttling_evidence", "valid", "invalid_reasons",
    "over_time", "notes", "contention", "lanes",
)  # fmt: skip
_IMAGES = 32  # that latency is measured on
_FEW = 4  # images that an artifact which is only timed is compared with torch on
_CALM = {"max_drop": None, "sensitivity_images": 0, "calibration_images": 16}  # 8 bits of what is only timed


@contextmanager
def student_run(
    scale: Scale,
    folder: Path,
    device: str,
    targets: Sequence[Json],
    *,
    measured: bool,
    profile: Mapping[str, Any] | None = None,
) -> Iterator[Context]:
    """A run, ready for its targets.

    Args:
        device: name or file.
        targets: entries of `export:`.
        measured: at the size of the shipped weights, with the student's AP to compare with; False: at the size at which
            latency counts, with few images.
        profile: that section of the recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "evidence.yaml"  # which JSON is
    size_px, images = (scale.ap_px, scale.ap_images) if measured else (scale.latency_px, _IMAGES)
    content = {
        "name": "evidence", "control": False, "distill": [],
        "data": {"format": "digits", "imgsz": size_px, "train": images, "val": images, "test": 1},
        "student": {"model": MODEL, "weights": str(weights())},
        "train": {"imgsz": size_px, "epochs": 1, "device": "cpu"}, "export": list(targets), "devices": [device],
        "profile": {"wait": scale.wait_s, **_protocol(scale.profile_minutes), **(profile or {})},
    }  # fmt: skip
    write_text(recipe, json.dumps(content))
    bound = bind_recipe(recipe)
    with RunDir.held(folder / "run", bound.recipe.name, bound.base, bound.locked()) as run:
        context = Context(bound, run, turn_seconds=60.0)
        run.accept()
        given_stage(context, measured=measured)
        yield context


def _protocol(minutes: float | None) -> Json:
    return {"protocol": "quick"} if minutes is None else {"protocol": "sustained", "sustained_minutes": minutes}


def calm(name: str) -> Json:
    """An entry of `export:` for a target that is only timed."""
    spec = load_target(name, {}, name)
    options = {step: {**spec.options.get(step, {}), **_CALM} for step, found in int8_options(spec)
               if isinstance(found, Int8Options)}  # fmt: skip
    return {"target": name, "parity_images": _FEW, "options": options}


def parity(context: Context, target: str) -> Json:
    """What the comparison with torch gave."""
    return dict(read_json(context.path / "export" / target / "parity.json"))


def accuracy(context: Context, target: str, device: str) -> Json:
    """AP there and of the student in torch, and whether it is the same model."""
    there = read_json(context.path / "validate" / f"{target}@{device}.json")
    here = read_json(context.path / "student" / "metrics.json")
    keys = ("ap", "ap50", "ap75", "seconds", "same_model")
    return {**{key: there.get(key) for key in keys}, "torch_ap": here["ap"]}


def latency(context: Context, target: str, device: str) -> Json:
    """The summary without its histograms and raw samples."""
    found = read_json(context.path / "profile" / f"{target}@{device}.json")
    return {key: found[key] for key in _LATENCY if key in found}


def runtime(context: Context, target: str, device: str) -> Json:
    """What ran it: name, version, providers, and what was in force; of a timing program, its name and accelerators."""
    return ran(read_json(context.path / "profile" / f"{target}@{device}.json"))


def ran(profile: Mapping[str, Any]) -> Json:
    """The same from a latency summary. A timing program tells no version of its runtime."""
    environment = profile.get("environment") or {}
    told = environment.get("runtime") or {}
    program = str(environment.get("program")).rpartition("/")[2]  # its path on the device is nobody's business
    found = {"name": told, "program": program} if isinstance(told, str) else dict(told)
    lanes = profile.get("lanes") or [profile]
    words = {word for lane in lanes for facts in lane.get("facts") or () for word in _accelerators(facts)}
    return {**found, **({"accelerators": sorted(words)} if words else {})}


def _accelerators(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a program says that it ran on, other than the CPU."""
    if facts.get("gpu_device", -1) >= 0:  # benchncnn
        yield "Vulkan"
    if any("gpu" in one["delegate"].lower() for one in facts.get("delegated") or ()):  # benchmark_model
        yield "GPU delegate"


def size_mb(context: Context, target: str) -> float:
    """Of the artifact's files."""
    folder = context.path / "export" / target
    files = read_json(folder / "edgekd.json")["files"]
    size_bytes = sum((folder / name).stat().st_size for name in files)
    return round(float(size_bytes) / 1e6, 3)


def device_file(setting: Setting, folder: Path, variant: Mapping[str, Any] | None) -> str:
    """Name or file of a device: the one that is asked for, or this machine with other runtimes and providers."""
    if variant is None:
        return setting.device
    path = folder / f"{variant['name']}.yaml"
    keys = {key: value for key, value in variant.items() if key != "name"}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump({"transport": "local", **keys}))
    return str(path)


def device_name(device: str) -> str:
    """As files of a run have it."""
    return Path(device).stem if device.endswith((".yaml", ".yml")) else device
