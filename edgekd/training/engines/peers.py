"""The engine's own trainings, to compare with: `yolo train` as it is, and its own distillation, `distill_model`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.detectors.ultralytics.guard import guard


def plain(model: str, data_yaml: Path, train: Mapping[str, Any], seed: int, folder: Path) -> Path:
    """Train as `yolo train` does, from random weights; the checkpoint."""
    guard(folder / "settings")
    from ultralytics import YOLO

    engine = YOLO(f"{model}.yaml")
    engine.train(data=str(data_yaml), seed=seed, save_dir=str(folder / "engine"), plots=False, **train)
    return folder / "engine" / "weights" / "best.pt"


def distilled(
    student: str,
    teacher: Any,
    weight: float,
    *,
    class_names: tuple[str, ...],
    data_yaml: Path,
    train: Mapping[str, Any],
    seed: int,
    threads: int,
    folder: Path,
) -> Path:
    """Train by the engine's `distill_model`: its trainer and loss, with the student built as edgekd builds it.

    Args:
        teacher: its network.
        weight: the engine's argument `dis`.

    Returns:
        the checkpoint.
    """
    guard(folder / "settings")
    import torch

    from edgekd.training.engines.trainer import YoloTrainer

    torch.save({"model": teacher, "train_args": {}}, folder / "teacher.pt")
    overrides = {
        **train, "model": f"{student}.yaml", "data": str(data_yaml), "seed": seed, "pretrained": False,
        "save_dir": str(folder / "engine"), "distill_model": str(folder / "teacher.pt"), "dis": weight,
        "verbose": False,
    }  # fmt: skip
    torch.set_num_threads(threads)
    trainer = YoloTrainer(overrides=overrides)
    built = UltralyticsDetector.opened(Asked(student, None, class_names, 3, "student"))
    trainer.prepare(built, False, None, False, None)
    trainer.train()
    return Path(trainer.best)


def same_weights(one: Path, other: Path) -> list[str]:
    """Names of the tensors of two checkpoints that are not equal to the last bit; `(names)` where these differ."""
    guard()
    import torch
    from ultralytics.nn.tasks import torch_safe_load

    states = [torch_safe_load(str(path), safe_only=True)[0]["model"].state_dict() for path in (one, other)]
    if states[0].keys() != states[1].keys():
        return ["(names)"]
    return [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
