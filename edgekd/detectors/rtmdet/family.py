"""The RTMDet family: opens RTMDet by the name of a model, or by weights of mmdetection, mmyolo and edgekd."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.detectors import described, families, torch_file
from edgekd.detectors.contract import Asked, Detector
from edgekd.detectors.rtmdet import checkpoint
from edgekd.detectors.rtmdet.detector import RTMDetDetector
from edgekd.detectors.rtmdet.scales import model_names
from edgekd.detectors.style import TrainingStyle, a_step_each_batch
from edgekd.errors import InputError, unknown
from edgekd.files import read_text

_CLOSED, _PUBLISHED_EPOCHS = 20, 300  # without mosaic and mixup, of all
_EPOCHS = 100  # the engine's default


def flat_cosine(epoch: float, epochs: int, last: float) -> float:
    """Factor on the learning rate: 1 for half of the training, then half a cosine down to `last`."""
    half = epochs / 2
    passed = min(max(epoch - half, 0.0) / max(epochs - half, 1e-9), 1.0)
    return last + (1 - last) * (1 + math.cos(math.pi * passed)) / 2


def fitted(train: Mapping[str, Any]) -> dict[str, Any]:
    """What mmdetection has by way of its loop, in the engine's keys: each batch is a step, and mosaic ends.

    The engine closes mosaic `close_mosaic` epochs before the end, or not at all in a training that is no longer than
    that: the published 20 of 300 epochs are a fifteenth, and so it stays in shorter ones.
    """
    epochs, found = train.get("epochs", _EPOCHS), a_step_each_batch(train)
    if isinstance(epochs, int):
        found["close_mosaic"] = min(_CLOSED, max(epochs * _CLOSED // _PUBLISHED_EPOCHS, 1))
    return found


class RTMDetFamily:
    """See `Family`. Training defaults are those of mmdetection 3.3.0, configs/rtmdet; a recipe's own keys come first.

    The published warm-up is 1000 steps, about two epochs of COCO; the published batch is 256 images. Mixup is the tiny
    scale's: s to x were trained with 1.0.
    """

    name = "rtmdet"
    student_files: tuple[str, ...] = checkpoint.FILES
    train_defaults: Mapping[str, Any] = {
        "optimizer": "AdamW", "lr0": 0.004, "lrf": 0.05, "weight_decay": 0.05, "momentum": 0.9,
        "warmup_epochs": 2.0, "warmup_bias_lr": 0.0, "warmup_momentum": 0.9,
        "mosaic": 1.0, "mixup": 0.5,
    }  # fmt: skip
    style = TrainingStyle(schedule=flat_cosine, ema_decay=0.9998, defaults=fitted, version=2)
    packages: tuple[str, ...] = ()

    def missing(self) -> str | None:
        """Nothing: it needs torch alone."""
        return None

    def models(self) -> list[str]:
        """See `Family.models`."""
        return model_names()

    def accepts(self, model: str | None, weights_path: Path | None) -> bool:
        """By the name of the model, else by what the weights say of themselves."""
        if model is not None:
            return model in model_names()
        return weights_path is not None and _is_ours(weights_path)

    def open(self, asked: Asked) -> RTMDetDetector:
        """See `Family.open`."""
        if asked.weights is not None:
            network, name = checkpoint.load(asked.weights, f"{asked.where}.weights")
            return RTMDetDetector(network, name)
        if asked.model is None:
            raise InputError(f"{asked.where}: give 'model' (a name such as rtmdet-tiny) or 'weights' (a file)")
        names = asked.class_names or checkpoint.unnamed(80)
        network = checkpoint.build(asked.model, names, asked.channels, f"{asked.where}.model")
        return RTMDetDetector(network.eval(), asked.model)

    def differing(self, model: str, detector: Detector, where: str) -> list[str]:
        """See `Family.differing`: weights say of which size they are."""
        if model not in model_names():
            raise InputError(f"{where}: {unknown('model', model, model_names())}")
        return [] if detector.spec.name == model else [f"{detector.spec.name} and {model}"]


def _is_ours(path: Path) -> bool:
    try:
        if path.suffix.lower() == ".safetensors":
            return (described.header_of(path) or {}).get("family") == RTMDetFamily.name
        if path.suffix.lower() == ".json":
            said = json.loads(read_text(path))
            return isinstance(said, dict) and said.get("family") == RTMDetFamily.name
        return path.suffix.lower() == ".pth" and _holds_ours(path)
    except (OSError, ValueError):
        return False


def _holds_ours(path: Path) -> bool:
    """Or cannot be read: then opening it says what is wrong."""
    try:
        return checkpoint.is_ours(torch_file.read(path).content)
    except (OSError, torch_file.NotReadable):
        return True


families.register(RTMDetFamily())
