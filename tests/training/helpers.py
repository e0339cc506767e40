"""Small trainings on the embedded data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.distill.config import MAIN, DistillerConfig
from edgekd.distill.contract import distiller_type
from edgekd.training.plan import FitPlan
from edgekd.training.teacher import Teacher

TRAIN: dict[str, Any] = {
    "imgsz": 64, "epochs": 1, "batch": 8, "optimizer": "AdamW", "lr0": 0.002, "mosaic": 0.5, "amp": False,
    "patience": 0,
}  # fmt: skip
SAME_CLASSES = ClassMap.identity(len(CLASS_NAMES))


def detector(name: str) -> UltralyticsDetector:
    torch.manual_seed(1)
    return UltralyticsDetector.opened(Asked(name, None, CLASS_NAMES, 3, "student"))


def teacher(name: str = "yolo11n") -> Teacher:
    """A frozen teacher away from its initial state: its outputs differ from point to point, and it is sure of some."""
    built = detector(name)
    for key, value in built.module.named_parameters():
        if ".dfl." not in key:
            value.data += 0.02 * torch.randn_like(value)
        if ".cv3." in key and key.endswith(".2.bias"):
            value.data += 6 * torch.rand_like(value)
    return Teacher(built.frozen(), SAME_CLASSES)


def teachers(name: str = "yolo11n") -> dict[str, Teacher]:
    """The recipe's only one."""
    return {MAIN: teacher(name)}


def methods(**named: dict[str, Any]) -> tuple[tuple[str, DistillerConfig], ...]:
    return tuple((name, distiller_type(name).config_type(**keys)) for name, keys in named.items())


def plan(data_yaml: Path, student: str = "yolo11p", distillers: Any = (), **train: Any) -> FitPlan:
    built = detector(student)
    return FitPlan(
        student=built, initialised=False, data_yaml=data_yaml, train={**TRAIN, **train},
        head=built.spec.branches[0] if built.spec.branches else None, seed=3, threads=1, distillers=distillers,
    )  # fmt: skip
