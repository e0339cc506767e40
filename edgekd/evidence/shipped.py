"""What every machine has without a network: the embedded data set, and the weights that the repository ships."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from edgekd.data.digits import CLASS_NAMES as CLASSES
from edgekd.data.digits import generate
from edgekd.recipe.lookup import find

MODEL = "yolo11n"
QUICKSTART = {"logit": 1.0, "ld": 1.0, "score_l2": 6.0}  # methods and weights
__all__ = ["CLASSES", "MODEL", "QUICKSTART", "arguments", "digits", "quickstart_methods", "shipped_teacher", "weights"]


def weights() -> Path:
    """Of a YOLO11n that knows the embedded data set."""
    return (find("recipes", "quickstart").parent / "weights" / "digits-yolo11n.safetensors").resolve()


@cache
def shipped_teacher() -> Any:
    """The detector of these weights."""
    from edgekd.detectors.contract import Asked
    from edgekd.detectors.families import open_detector

    return open_detector(None, Asked(MODEL, weights(), (), 3, "teacher"))


def digits(folder: Path, size_px: int, train: int, val: int) -> Path:
    """The data.yaml of some images of the embedded data set."""
    return generate(folder, imgsz=size_px, train=train, val=val, test=1, seed=0)


def arguments(size_px: int, epochs: int, batch: int) -> dict[str, Any]:
    """Of the quickstart's training, with another length."""
    return {
        "imgsz": size_px, "epochs": epochs, "batch": batch, "nbs": batch, "optimizer": "AdamW", "lr0": 0.005,
        "cos_lr": True, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "mosaic": 0.0, "fliplr": 0.0, "amp": False,
        "patience": 0,
    }  # fmt: skip


def quickstart_methods() -> tuple[tuple[str, Any], ...]:
    """The quickstart's methods with their configs."""
    from edgekd.distill.contract import distiller_type

    return tuple(
        (name, distiller_type(name).config_type.model_validate({"weight": weight}))
        for name, weight in QUICKSTART.items()
    )
