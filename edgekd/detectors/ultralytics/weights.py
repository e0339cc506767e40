"""Weights in and out: Ultralytics checkpoints by allow-list, and safetensors whose header describes the model.

No file that is read here can run code, load more than it holds, or make the engine download anything. Both forms carry
the model's YAML, in which the engine evaluates an `activation` expression; it is therefore checked (`untrusted`), and
built under the engine's restricted mode (`guard`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgekd.atomic import atomic_path
from edgekd.detectors.ultralytics import untrusted
from edgekd.detectors.ultralytics.guard import exact_paths, guard
from edgekd.errors import InputError
from edgekd.files import open_regular

_HEADER = "edgekd"


def load(path: Path, where: str) -> Any:
    """Read a detector of the Ultralytics family, fp32, eval mode, on the CPU.

    Args:
        path: `.pt` (Ultralytics checkpoint) or `.safetensors` (written by `save_safetensors`).
        where: key of the recipe, for messages.

    Raises:
        InputError: missing, truncated, or of another family.
    """
    if path.is_dir():
        raise InputError(f"{where}: {path} is a folder; give the path of a weights file")
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
    from safetensors import safe_open

    remedy = "give the student.safetensors of an edgekd run, or an Ultralytics detection checkpoint"
    try:
        with safe_open(path, framework="pt") as reader:
            header = json.loads((reader.metadata() or {})[_HEADER])
            tensors = {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
        config, names = header["yaml"], [str(name) for name in header["names"]]
        guard()
        untrusted.check_config(config)
        untrusted.check_described({**config, "nc": len(names)}, _channels(config), tensors.values())
        untrusted.require_finite(tensors)
        model = build(config, len(names), _channels(config))
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
        )
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
