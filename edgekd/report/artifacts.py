"""One row per exported target and device: accuracy, parity, latency, size and hashes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from edgekd.measure.withheld import without_figures
from edgekd.report import half, throughput
from edgekd.report.files import RunFiles
from edgekd.report.lanes import lanes_of

PERCENTILES = ("p50", "p90", "p95", "p99")
STAGES = ("pre", "inference", "post", "end_to_end")
_LATENCY = (*PERCENTILES, "mean", "mad", "min", "max", "count")
_ACCURACY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class", "operating_point", "images")
_PARITY = ("max_abs", "max_abs_score", "max_abs_box_px", "matched", "tolerance", "images", "passed", "reason")
_PROFILE = (
    "protocol", "processes", "first_inference_ms", "load_ms", "build_ms", "peak_memory_mb", "cv", "drift_percent",
    "spread", "valid", "invalid_reasons", "notes", "histogram", "energy_mj_per_inference", "energy", "temperature_c",
)  # fmt: skip


def collect_artifacts(files: RunFiles, recipe: Mapping[str, Any], student_ap: float | None) -> list[dict[str, Any]]:
    """Artifacts ordered by device, then as named; one row without a device where a target was only exported.

    Args:
        files: of the run.
        recipe: locked; targets and devices that its `export` and `devices` do not name are left out.
        student_ap: AP of the torch student, for the drop; None leaves it out.
    """
    targets = sorted(PurePosixPath(name).parent.name for name in files.names("export/*/edgekd.json"))
    if "export" in recipe:
        wanted = target_names(recipe)
        targets = [target for target in targets if target in wanted]
    exports = {target: _exported(files, target) for target in targets}
    pairs = {pair for folder in ("validate", "profile") for pair in _pairs(files, folder, targets)}
    devices = device_names(recipe)
    measured = {pair for pair in pairs if "devices" not in recipe or pair[1] in devices}
    only_exported = {(target, "") for target in targets} - {(target, "") for target, _ in measured}
    rows = []
    for target, device in sorted(measured | only_exported, key=lambda pair: (pair[1], pair[0])):
        row = {"target": target, "device": device or None, **exports[target]}
        rows.append(row | _measured(files, target, device, row, student_ap))
    return rows


def target_names(recipe: Mapping[str, Any]) -> set[str]:
    """Names of the targets of a locked recipe: their own, else those of their files."""
    entries = recipe.get("export") or []
    given = [entry.get("name", entry["target"]) if isinstance(entry, dict) else entry for entry in entries]
    return {PurePosixPath(str(name)).name.removesuffix(".yaml") for name in given}


def device_names(recipe: Mapping[str, Any]) -> set[str]:
    """Names of the devices of a locked recipe."""
    return {PurePosixPath(name).stem for name in recipe.get("devices") or []}


def _pairs(files: RunFiles, folder: str, targets: list[str]) -> list[tuple[str, str]]:
    """(target, device) of each `<target>@<device>.json` whose target was exported."""
    stems = (PurePosixPath(name).stem for name in files.names(f"{folder}/*@*.json"))
    pairs = (stem.split("@", 1) for stem in stems)
    return [(target, device) for target, device in pairs if target in targets]


def _exported(files: RunFiles, target: str) -> dict[str, Any]:
    """What the export stage left: sidecar, parity, size on disk, hashes."""
    folder = f"export/{target}"
    sidecar = files.json(f"{folder}/edgekd.json") or {}
    stated: Mapping[str, str] = sidecar.get("files") or {}
    found = {name: files.sha256(f"{folder}/{name}") for name in stated}
    sizes = [(files.run / folder / name).stat().st_size for name, digest in found.items() if digest]
    parity = files.json(f"{folder}/parity.json")
    return {
        "runtime": sidecar.get("runtime"),
        "precision": sidecar.get("precision"),
        "size_bytes": sum(sizes) if sizes and len(sizes) == len(stated) else None,
        "sha256": next(iter(stated.values()), None),
        "files": dict(stated),
        "changed_files": sorted(name for name, digest in found.items() if digest != stated[name]),
        "parity": {key: (parity or {}).get(key) for key in _PARITY},
        "quantization": files.json(f"{folder}/quantization.json"),
        "sources": {
            "sidecar": f"{folder}/edgekd.json",
            "parity": None if parity is None else f"{folder}/parity.json",
        },
    }


def _measured(
    files: RunFiles, target: str, device: str, exported: Mapping[str, Any], student_ap: float | None
) -> dict[str, Any]:
    """What validation and profiling found on one device."""
    names = {"accuracy": f"validate/{target}@{device}.json", "latency": f"profile/{target}@{device}.json"}
    accuracy, profile = files.json(names["accuracy"]), files.json(names["latency"])
    under_load, half_note = throughput.entries(profile), half.on_cpu(exported["precision"], profile)
    if profile and profile.get("valid") is False:
        profile = without_figures(profile)
    row: dict[str, Any] = {key: (accuracy or {}).get(key) for key in _ACCURACY}
    row["ap_drop"] = None if student_ap is None or row["ap"] is None else student_ap - row["ap"]
    row |= {key: (profile or {}).get(key) for key in _PROFILE}
    if half_note:
        row["notes"] = [*(row["notes"] or ()), *half_note]
    latency = (profile or {}).get("latency_ms") or {}
    row["stages_ms"] = {stage: _percentiles(latency.get(stage)) for stage in STAGES}
    row["latency_ms"] = row["stages_ms"]["end_to_end"]
    row["throughput"], row["batch"] = under_load, throughput.batch_of(profile)
    row["lanes"] = lanes_of(profile)
    row["accuracy"], row["accuracy_reason"] = (accuracy or {}).get("accuracy"), (accuracy or {}).get("reason")
    row["sources"] = dict(exported["sources"]) | {
        "accuracy": None if accuracy is None else names["accuracy"],
        "latency": None if profile is None else names["latency"],
    }
    return row


def _percentiles(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: (summary or {}).get(key) for key in _LATENCY}
