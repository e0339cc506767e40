"""From the engine's best checkpoint to the files of a trained student."""

from __future__ import annotations

from pathlib import Path

from edgekd.detectors.contract import Trainable
from edgekd.detectors.ultralytics.guard import exact_paths
from edgekd.training.engines.process import prepare
from edgekd.training.engines.shell import is_engines

_PRIVATE = {"model", "data", "project", "name", "save_dir", "cfg", "device"}  # arguments that tell of the machine


def save_student(student: Trainable, checkpoint: Path, folder: Path, size_px: int) -> None:
    """Save what was trained as its family does, without paths, host or history.

    Args:
        student: of the same architecture.
        checkpoint: as the trainer wrote it.
        size_px: of the images.
    """
    prepare()
    import torch
    from ultralytics.nn.tasks import torch_safe_load

    if is_engines(student):
        with exact_paths():
            content, _ = torch_safe_load(str(checkpoint), safe_only=True)
        trained, arguments = student.with_module(content.get("ema") or content["model"]), content["train_args"]
    else:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        trained, arguments = student.rebuilt(content["class_names"], False), content["arguments"]
        trained.module.load_state_dict(content["weights"])
    public = {key: value for key, value in arguments.items() if key not in _PRIVATE}
    trained.save(folder, public, size_px)
