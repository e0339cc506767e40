"""A device for `edgekd shortlist` of our own making: models and latencies obey a law, everything else is as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from edgekd.search.facts import FactsStore
from edgekd.search.students import Candidate
from edgekd.search.verdicts import Result
from tests.search.made import measured
from tests.stages.tiny import Ended, edgekd

# Million weights, and GFLOPs at 640 px.
MODELS = {
    "yolo11p": (0.8, 2.0), "yolo11n": (2.6, 6.5), "yolo11s": (9.4, 21.5), "yolo11m": (20.1, 68.0),
    "yolo11l": (25.3, 86.9), "yolo11x": (56.9, 194.9), "yolov8p": (0.9, 2.6), "yolov8n": (3.2, 8.7),
    "yolov8s": (11.2, 28.6), "yolov8m": (25.9, 78.9), "yolov8x": (68.2, 257.8), "rtmdet-tiny": (4.9, 16.2),
}  # fmt: skip
Device = Callable[[Candidate], Result]


def law(candidate: Candidate) -> Result:
    """10 ms per GFLOP to the power of 0.8; 100 MB and as many as the weights take."""
    ms = 10 * candidate.facts.gflops**0.8
    return measured(ms, 1.1 * ms, memory_mb=100 + candidate.facts.parameters * 4e-6, size_mb=1.0)


class Bench:
    """Stands in for a device; remembers what it measured."""

    def __init__(self) -> None:
        self.answer: Device = law
        self.names: list[str] = []

    def measure(self, candidate: Candidate) -> Result:
        self.names.append(candidate.name)
        return self.answer(candidate)


def look(_: FactsStore, model: str, where: str) -> dict[str, Any]:
    weights, gflops = MODELS[model]
    work = {str(size): gflops * (size / 640) ** 2 for size in (192, 224, 256)}
    return {"model": model, "parameters": int(weights * 1e6), "branches": [], "size_multiple": 32, "gflops": work}


def recipe(students: dict[str, Any] | None = None, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "name": "street",
        "data": {"format": "yolo", "path": "data.link/data.yaml"},
        "student": {"model": "yolo11n"},
        "train": {"imgsz": 640},
        "export": ["onnx-fp32"],
        "devices": ["local"],
        "search": {"students": {"models": list(MODELS), "sizes": [640, 320], **(students or {})}},
    }
    merged = {key: value for key, value in {**content, **changes}.items() if value is not None}
    Path("street.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
    return Path("street.yaml")


def run(*arguments: object) -> Ended:
    return edgekd("shortlist", "street.yaml", *arguments)
