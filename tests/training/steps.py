"""One training step of a student with all six methods and a trained teacher, in any number format and layout."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.guard import guard
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.memory import checkpointed
from edgekd.training.teacher import Teacher
from tests.training.helpers import SAME_CLASSES, detector, methods

WEIGHTS = Path(__file__).parents[2] / "recipes/weights/digits-yolo11n.safetensors"
ALL = {"logit": {}, "ld": {}, "cwd": {}, "pkd": {}, "fitnet": {}, "score_l2": {}}


@dataclass(frozen=True)
class Step:
    """What one step gives: the summed loss, every term as it is logged, gradients by parameter, buffers afterwards."""

    total: Tensor
    terms: dict[str, Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


def batch_of(data_yaml: Path, size: int = 8, device: str = "cpu") -> dict[str, Tensor]:
    """The first training images of a data set in YOLO layout, as the engine's loader would give them."""
    images, rows, index = [], [], []
    for number, path in enumerate(sorted((data_yaml.parent / "images/train").iterdir())[:size]):
        images.append(torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255)
        labels = np.loadtxt(data_yaml.parent / "labels/train" / f"{path.stem}.txt", ndmin=2)
        rows.append(torch.from_numpy(labels).float())
        index += [number] * len(labels)
    found = torch.cat(rows)
    batch = {"img": torch.stack(images), "cls": found[:, :1], "bboxes": found[:, 1:], "batch_idx": torch.tensor(index)}
    return {name: value.to(device) for name, value in batch.items()}


@cache
def trained() -> UltralyticsDetector:
    """The teacher that is shipped."""
    return UltralyticsDetector.opened(Asked("yolo11n", WEIGHTS, (), 3, "teacher"))


def module_of(
    chosen: dict[str, dict[str, Any]] = ALL, runtime: Any = "eager", precision: Any = None, device: str = "cpu"
) -> DistillationModule:
    """yolo11p taught by a trained yolo11n, the same weights at every call, in training mode."""
    guard()
    from ultralytics.cfg import get_cfg

    student = detector("yolo11p")
    student.module.args = get_cfg()
    student.module.to(device).requires_grad_(True)
    tutor = Teacher(trained().frozen(), SAME_CLASSES, runtime, precision).to(torch.device(device))
    torch.manual_seed(0)
    built = UltralyticsDetector(student.module, "yolo11p")
    parts = build_distillers(methods(**chosen), built.spec, {"teacher": tutor})
    module = DistillationModule(built, built.module, parts, [tutor] * len(parts), epochs=1, seed=0)
    module.train()
    return module.to(device)


def step(
    module: DistillationModule,
    batch: dict[str, Tensor],
    amp: torch.dtype | None = None,
    memory: bool = False,
) -> Step:
    """Forward and backward.

    Args:
        amp: number format of autocast, if any.
        memory: with activation checkpointing.
    """
    saving: AbstractContextManager[None] = checkpointed(module.detector.layers()) if memory else nullcontext()
    with saving:
        with torch.autocast(batch["img"].device.type, dtype=amp, enabled=amp is not None):
            loss, items = module(batch)
        loss.sum().backward()
    gradients = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    return Step(loss.sum().detach(), items, gradients, dict(module.named_buffers()))
