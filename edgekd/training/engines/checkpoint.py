"""The engine's checkpoint, without all that is of no use to anybody but the training that wrote it."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from edgekd.atomic import write_bytes
from edgekd.detectors.ultralytics.guard import exact_paths, guard


def write_student(checkpoint: Path, path: Path, imgsz: int) -> None:
    """Rewrite it without paths, host or history: it opens in the engine and says nothing else."""
    guard()
    from ultralytics import __version__
    from ultralytics.nn.tasks import torch_safe_load

    with exact_paths():
        content, _ = torch_safe_load(str(checkpoint), safe_only=True)
    model = content.get("ema") or content["model"]
    model.criterion = None
    model.pt_path = None
    private = {"model", "data", "project", "name", "save_dir", "cfg", "device"}
    arguments = {key: value for key, value in content["train_args"].items() if key not in private}
    model.args = {"task": "detect", "imgsz": imgsz}
    buffer = io.BytesIO()  # a file of its own would put its temporary name into the archive
    torch.save(
        {
            "epoch": -1, "model": model.half(), "ema": None, "optimizer": None, "train_args": arguments,
            "version": __version__, "license": "AGPL-3.0 (https://ultralytics.com/license)",
        },
        buffer,
    )  # fmt: skip
    write_bytes(path, buffer.getvalue())
