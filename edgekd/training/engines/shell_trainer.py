"""The engine's trainer for students whose network is none of the engine's."""

from __future__ import annotations

import io
from typing import Any

import torch

from edgekd.atomic import write_bytes
from edgekd.detectors.contract import Trainable
from edgekd.training.engines.shell import is_engines, student_of
from edgekd.training.engines.trainer import RtdetrTrainer, StudentTrainer, YoloTrainer

from ultralytics.nn.tasks import RTDETRDetectionModel  # isort: skip  (behind what prepares its import)


class ShellTrainer(YoloTrainer):
    """Data, optimiser, loop and validation are the engine's; checkpoints hold tensors, and no object of any class."""

    def save_model(self) -> bool:
        """The average's weights, as the last and perhaps as the best."""
        buffer = io.BytesIO()
        content = {
            "weights": student_of(self.ema.ema).state_dict(),
            "class_names": list(self.data["names"].values()),
            "arguments": {key: value for key, value in vars(self.args).items() if _is_plain(value)},
        }
        torch.save(content, buffer)
        self.wdir.mkdir(parents=True, exist_ok=True)
        write_bytes(self.last, buffer.getvalue())
        if self.best_fitness == self.fitness:
            write_bytes(self.best, buffer.getvalue())
        return True

    def final_eval(self) -> None:
        """Nothing: the engine would open the best checkpoint as one of its own; its AP is measured later."""


def trainer_type(student: Trainable) -> type[StudentTrainer]:
    """The trainer for a student."""
    if not is_engines(student):
        return ShellTrainer
    return RtdetrTrainer if isinstance(student.module, RTDETRDetectionModel) else YoloTrainer


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def stretches(student: Trainable) -> bool:
    """Whether its training stretches images to squares; others fit them in, with padding."""
    return issubclass(trainer_type(student), RtdetrTrainer)
