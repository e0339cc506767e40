"""Weights in and out: Ultralytics checkpoints by allow-list, and safetensors whose header describes the model.

No file that is read here can run code, load more than it holds, or make the engine download anything. Both forms carry
the model's YAML, in which the engine evaluates an `activation` expression; it is therefore checked (`untrusted`), and
built under the engine's restricted mode (`guard`).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import write_bytes
from edgekd.detectors import described
from edgekd.detectors.ultralytics import untrusted
from edgekd.detectors.ultralytics.guard import exact_paths, guard
from edgekd.errors import InputError
from edgekd.files import open_regular

CHECKPOINT = "student.pt"  # what a training leaves
TWIN = "student.safetensors"  # the same weights, beside their AP


def load(path: Path, where: str) -> Any:
    """Read a detector of the Ultralytics family, fp32, eval mode, on the CPU.

    Args:
        path: `.pt` (Ultralytics checkpoint) or `.safetensors` (written by `save_safetensors`).
        where: key of the recipe, for messages.

    Raises:
        InputError: missing, truncated, or of another family.
    """
    if path.is_dir():
        raise InputError(
            f"{where}: {path} is a folder; give the path of a weights file, or a folder of transformers, which has a "
            "config.json"
        )
    if not path.exists():
        raise InputError(f"{where}: no file {path}; put the weights there (edgekd downloads none) or correct the path")
    try:
        open_regular(path).close()
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); give a weights file") from error
    readers = {".pt": _load_checkpoint, ".safetensors": _load_safetensors}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{where}: {path}: unknown suffix '{path.suffix}' (allowed: {', '.join(readers)})")
    return reader(path, where)


def may_hold(path: Path) -> bool:
    """Whether a file, by its name and by its header, may hold a detector of this family; false only if it is another's.

    The header of safetensors alone is read.
    """
    suffix = path.suffix.lower()
    if suffix != ".safetensors" or not path.is_file():
        return suffix in (".pt", ".safetensors")
    header = described.header_of(path)
    return header is None or "yaml" in header


def build(config: dict[str, Any], class_count: int, channels: int) -> Any:
    """Build a detector from a model YAML that is already read; random weights from torch's global generator."""
    guard()
    from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

    transformer = any(layer[2] == "RTDETRDecoder" for layer in config["head"])
    kind = RTDETRDetectionModel if transformer else DetectionModel
    return kind(dict(config), ch=channels, nc=class_count, verbose=False)


def save_safetensors(model: Any, path: Path, extra: dict[str, Any], half: bool = True) -> None:
    """Write a detector as safetensors; the header holds its YAML, class names and `extra` (AP, hashes, recipe)."""
    described.write(model, path, {"yaml": model.yaml, "names": list(model.names.values()), **extra}, half)


def save_checkpoint(model: Any, path: Path, arguments: Mapping[str, Any], size_px: int) -> None:
    """Write a trained network as a checkpoint of the engine: it opens there, and says nothing of this machine.

    Changes `model`, which is made half precision.

    Args:
        arguments: of the training.
        size_px: that the engine predicts at by default.
    """
    import torch
    from ultralytics import __version__

    model.criterion = None
    model.pt_path = None
    model.args = {"task": "detect", "imgsz": size_px}
    buffer = io.BytesIO()  # a file of its own would put its temporary name into the archive
    torch.save(
        {
            "epoch": -1, "model": model.half(), "ema": None, "optimizer": None, "train_args": dict(arguments),
            "version": __version__, "license": "AGPL-3.0 (https://ultralytics.com/license)",
        },
        buffer,
    )  # fmt: skip
    write_bytes(path, buffer.getvalue())


def _load_checkpoint(path: Path, where: str) -> Any:
    guard()
    from ultralytics.nn.tasks import torch_safe_load

    remedy = "give an Ultralytics detection checkpoint, or the student.safetensors of an edgekd run"
    try:
        untrusted.check_checkpoint(path)
        with exact_paths():
            content, _ = torch_safe_load(str(path), safe_only=True)
        model: Any = (content.get("ema") or content.get("model")) if isinstance(content, dict) else None
        if not hasattr(model, "yaml") or not hasattr(model, "names"):
            raise untrusted.Refused("holds no Ultralytics model")
        untrusted.check_config(model.yaml)
        tensors = [*model.parameters(), *model.buffers()]
        if sum(value.numel() * value.element_size() for value in tensors) > path.stat().st_size:
            raise untrusted.Refused("has weights that take more memory than the file is long")
        untrusted.check_described(model.yaml, _channels(model.yaml), tensors)
        untrusted.require_finite(model.state_dict())
    except untrusted.Refused as error:
        raise InputError(f"{where}: {path} {error}; {remedy}") from error
    except Exception as error:  # the engine raises many kinds for one fact: this is not a checkpoint it knows
        reason = _reason(error)
        raise InputError(f"{where}: {path} cannot be read as an Ultralytics checkpoint ({reason}); {remedy}") from error
    return model.float().eval()


def _load_safetensors(path: Path, where: str) -> Any:
    remedy = "give the student.safetensors of an edgekd run, or an Ultralytics detection checkpoint"
    try:
        header, tensors = described.read(path)
        config, names = header["yaml"], [str(name) for name in header["names"]]
        guard()
        untrusted.check_config(config)
        untrusted.check_described({**config, "nc": len(names)}, _channels(config), tensors.values())
        untrusted.require_finite(tensors)
        model = build(config, len(names), _channels(config))
        model.load_state_dict(tensors)
    except untrusted.Refused as error:
        raise InputError(f"{where}: {path} {error}; {remedy}") from error
    except Exception as error:  # whatever a header made up breaks
        reason = _reason(error)
        raise InputError(f"{where}: {path} is not a detector written by edgekd, or is damaged ({reason})") from error
    model.names = dict(enumerate(names))
    return model.float().eval()


def _channels(config: dict[str, Any]) -> int:
    """Input channels; older engines wrote `ch`."""
    return int(config.get("channels", config.get("ch", 3)))


def _reason(error: Exception) -> str:
    """The first line of an error, and its kind where that says little."""
    text = next(iter(str(error).splitlines()), "")[:200]
    return text if len(text.split()) > 2 else f"{type(error).__name__}: {text}"
