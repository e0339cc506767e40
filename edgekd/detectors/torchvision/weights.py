"""Weights of torchvision's detectors: `.pth` as it publishes them or as its training script saves them, safetensors.

Every weight of a file must have its place and every place its weight. Nothing that a file names is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors import described, torch_file
from edgekd.detectors.torchvision import classes
from edgekd.detectors.torchvision.build import build
from edgekd.detectors.torchvision.models import known
from edgekd.errors import InputError
from edgekd.files import open_regular

FAMILY = "torchvision"
_COUNTERS = ("num_batches_tracked",)
_MANY = 3  # names that a message shows


class Refused(ValueError):
    """Why a file is not opened: the end of a sentence that begins with its name."""


def load(name: str, path: Path, where: str) -> tuple[nn.Module, tuple[str, ...]]:
    """Read a network, fp32, eval mode, on the CPU, and the names of all its class columns.

    Args:
        name: of the model.
        path: `.pth` (a state dict, or a dict with one under `model`), or `.safetensors`.
        where: of the teacher in the recipe, for messages.

    Raises:
        InputError: missing, damaged, or of another model.
    """
    model = known(name, f"{where}.model")
    try:
        open_regular(path).close()
        tensors, said = _read(path)
        if model.class_layer not in tensors:
            raise Refused(f"is no {name}: it has no {model.class_layer}")
        columns, rest = divmod(len(tensors[model.class_layer]), model.anchors)
        if rest or columns < 2:
            raise Refused(f"is no {name}: {len(tensors[model.class_layer])} rows in {model.class_layer}")
        network = _filled(name, columns, tensors)
    except OSError as error:
        raise InputError(
            f"{where}.weights: {path} cannot be read ({error.strerror}); give torchvision's file"
        ) from error
    except (Refused, torch_file.NotReadable) as error:
        raise InputError(
            f"{where}.weights: {path} {error}; give the state_dict of a {name} (.pth or .safetensors), or its model"
        ) from error
    names = classes.of_weights(columns, path, said, f"{where}.weights")
    if names == classes.coco():
        _set_eps(network, tensors, model.coco_eps)
    return network, names


def _read(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """Tensors, and class names if the file has them."""
    if path.suffix.lower() == ".safetensors":
        said = (described.header_of(path) or {}).get("classes")
        try:
            from safetensors.torch import load_file

            tensors: dict[str, Tensor] = load_file(path)
        except Exception as error:  # whatever a header made up breaks
            raise Refused(f"is no safetensors file, or is damaged ({type(error).__name__})") from error
        return _in_float32(tensors), said if isinstance(said, list) else None
    file = torch_file.read(path)
    content: Any = file.content
    if isinstance(content, dict) and isinstance(content.get("model"), dict):  # of torchvision's training script
        content = content["model"]
    if not isinstance(content, dict):
        raise Refused("holds no state_dict")
    return _in_float32(file.tensors({key: value for key, value in content.items() if isinstance(key, str)})), None


def _in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def _filled(name: str, columns: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network with these weights.

    The first version of RetinaNet's head had other names, which torchvision translates while it loads.

    Raises:
        Refused: they are not this model's.
    """
    first = next((value for value in tensors.values() if value.dim() == 4), None)
    network = build(name, columns, 3 if first is None else first.shape[1])
    try:
        found = network.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:  # shapes; the second line names the first one
        reason = [*str(error).strip().splitlines(), ""][1].strip()
        raise Refused(f"is no {name}: {reason}") from error
    missing = [key for key in found.missing_keys if not key.endswith(_COUNTERS)]
    for problem, keys in (("lacks", missing), ("has no place for", found.unexpected_keys)):
        if keys:
            raise Refused(f"is no {name}: it {problem} {_shown(keys)}")
    for key, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Refused(f"holds a NaN or an infinity in {key}")
    return network


def _set_eps(network: nn.Module, tensors: Mapping[str, Tensor], eps: float) -> None:
    """Of frozen batch norms, which keep no count; torchvision sets it to 0 in two of its models for COCO."""
    for path, part in network.named_modules():
        if isinstance(part, nn.BatchNorm2d) and f"{path}.num_batches_tracked" not in tensors:
            part.eps = eps


def _shown(keys: Sequence[str]) -> str:
    more = len(keys) - _MANY
    return ", ".join(keys[:_MANY]) + (f" and {more} more" if more > 0 else "")
