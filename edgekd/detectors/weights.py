"""Weights in and out: Ultralytics checkpoints by allow-list, and safetensors whose header describes the model.

No file that is read here can run code. A safetensors header carries the model's YAML, and the engine evaluates an
`activation` expression in such a YAML; it is therefore built under the engine's restricted mode (`engine_guard`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekd.atomic import atomic_path
from edgekd.detectors.engine_guard import guard
from edgekd.errors import InputError

_HEADER = "edgekd"


def load(path: Path, where: str) -> Any:
    """Read a detector of the Ultralytics family, fp32, eval mode, on the CPU.

    Args:
        path: `.pt` (Ultralytics checkpoint) or `.safetensors` (written by `save_safetensors`).
        where: key of the recipe, for messages.

    Raises:
        InputError: missing, truncated, or of another family.
    """
    if not path.is_file():
        raise InputError(f"{where}: no file {path}; put the weights there or correct the path")
    readers = {".pt": _load_checkpoint, ".safetensors": _load_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{where}: {path}: unknown suffix '{path.suffix}' (allowed: {', '.join(readers)})")
    return reader(path, where)


def build(config: dict[str, Any], class_count: int, channels: int) -> Any:
    """Build a detector from a model YAML that is already read; random weights from torch's global generator."""
    guard()
    from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

    transformer = any(layer[2] == "RTDETRDecoder" for layer in config["head"])
    kind = RTDETRDetectionModel if transformer else DetectionModel
    return kind(dict(config), ch=channels, nc=class_count, verbose=False)


def save_safetensors(model: Any, path: Path, extra: dict[str, Any], half: bool = True) -> None:
    """Write a detector as safetensors; the header holds its YAML, class names and `extra` (AP, hashes, recipe)."""
    from safetensors.torch import save_file

    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in model.state_dict().items()
    }
    header = {"yaml": model.yaml, "names": list(model.names.values()), **extra}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header, default=str)})
        temporary.chmod(0o644)  # the library makes it readable for its owner alone


def _load_checkpoint(path: Path, where: str) -> Any:
    guard()
    from ultralytics.nn.tasks import torch_safe_load

    remedy = "give an Ultralytics detection checkpoint, or the student.safetensors of an edgekd run"
    try:
        checkpoint, _ = torch_safe_load(str(path.resolve()), safe_only=True)
    except Exception as error:  # the engine raises many kinds for one fact: this is not a checkpoint it knows
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{where}: {path} cannot be read as an Ultralytics checkpoint ({reason}); {remedy}") from error
    model = checkpoint.get("ema") or checkpoint.get("model")
    if not hasattr(model, "yaml") or not hasattr(model, "names"):
        raise InputError(f"{where}: {path} holds no Ultralytics model; {remedy}")
    return model.float().eval()


def _load_safetensors(path: Path, where: str) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as reader:
            header = json.loads((reader.metadata() or {})[_HEADER])
            tensors = {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
        model = build(header["yaml"], len(header["names"]), int(header["yaml"].get("channels", 3)))
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        )
    except (SafetensorError, KeyError, ValueError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{where}: {path} is not a detector written by edgekd, or is damaged ({reason})") from error
    model.names = dict(enumerate(header["names"]))
    return model.float().eval()
