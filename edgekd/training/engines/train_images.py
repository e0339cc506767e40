"""The train split as the engine has read it, for methods that look at it before an epoch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgekd.training.engines.protocol import EngineData
from edgekd.training.survey import TrainImage, TrainImages

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer


def train_images(trainer: StudentTrainer) -> TrainImages:
    """Files and labels of the loader's data set. Its images in memory, of which mosaics are made, stay as they are."""
    data: EngineData = trainer.train_loader.dataset
    images = [
        TrainImage(
            Path(label["im_file"]),
            label["bboxes"],
            label["cls"].reshape(-1).astype("int64"),
            place not in trainer.unlabelled,
        )
        for place, label in enumerate(data.labels)
    ]
    dtype = torch.bfloat16 if trainer.args.amp == "bf16" else torch.float16
    return TrainImages(
        images=images,
        size_px=trainer.args.imgsz,
        channels=trainer.data["channels"],
        batch=trainer.train_loader.batch_size,
        device=trainer.device,
        precision=partial(torch.autocast, trainer.device.type, dtype=dtype, enabled=trainer.amp),
    )
