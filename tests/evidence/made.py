"""A machine, and files of it, that were never looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.evidence import document, sources
from edgekd.evidence.document import Document, Entry, Shown
from edgekd.export.targets import load_target

MACHINE: dict[str, Any] = {
    "edgekd": __version__, "system": "Linux", "release": "6.8", "machine": "x86_64", "python": "3.12.3", "cores": 16,
    "memory_gb": 128.0, "versions": {"torch": "2.11", "ultralytics": "8.4.190", "pytest": "8.3"}, "cuda": "13.0",
    "programs": {"nvidia-smi": True, "trtexec": False, "gcc": True, "g++": True},
    "gpus": [{"name": "NVIDIA H200", "memory_gb": 150.0, "compute_capability": "9.0", "sm_count": 132}],
    "driver": "580.1", "onnxruntime_providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
    "openvino_devices": ["CPU"],
    "device": {
        "name": "local", "transport": "local", "has_agent": True, "runtimes": ["onnxruntime", "openvino"],
        "providers": {}, "tools": [], "says_emulated": None,
        "facts": {"system": "Linux", "release": "6.8", "machine": "x86_64", "cores": 16},
        "usable": {"onnxruntime": "1.24", "openvino": "2026.4"}, "unusable": {}, "programs": {"trtexec": False},
        "platform": {"machine": "x86_64", "system": "Linux", "cpu_model": "A CPU", "board": None, "emulated": None},
    },
}  # fmt: skip


def shown(target: str, *where: str, by: dict[str, str] | None = None) -> Shown:
    """That a target was executed, by the code that there is."""
    files = sources.hashes(sources.of_target(load_target(target, {}, target)))
    return Shown(row=f"target {target}", where=where, by={"edgekd": "0.1.0", **(by or {})}, sources=files)


def made(*rows: Shown, scale: str = "full", **changes: Any) -> Document:
    """A file with one experiment."""
    entry = Entry(
        experiment="target", title="a target", status="done", seconds=12.34, limit_s=60, date="2026-11-27",
        figures={"ap": 0.5}, shows=rows,
    )  # fmt: skip
    content = {
        "edgekd": __version__, "scale": scale, "machine": "Jetson AGX Orin", "device": "jetson-agx-orin",
        "environment": MACHINE, "entries": (entry,),
    }  # fmt: skip
    return Document.model_validate({**content, **changes})


def written(folder: Path, found: Document, name: str = "orin.json") -> Path:
    """Its file."""
    document.write(folder / name, found)
    return folder / name
