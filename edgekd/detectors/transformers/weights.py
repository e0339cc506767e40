"""Weights of a folder of transformers: safetensors, else `pytorch_model.bin` by edgekd's own reader, whole or in parts.

The library renames what older releases named otherwise. Every weight must have its place and every place its weight.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors import torch_file
from edgekd.detectors.transformers.library import network_class
from edgekd.errors import InputError
from edgekd.files import open_regular, read_text

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"
_INDEX = ".index.json"
_COUNTERS = "num_batches_tracked"
_MANY = 3  # names that a message shows


class Refused(ValueError):
    """Why a folder is not opened: the end of a sentence that begins with its name."""


def load(config: Any, folder: Path, where: str) -> Any:
    """A network of the library with the folder's weights, fp32, eval mode, on the CPU.

    Raises:
        InputError: missing, damaged, or of another model.
    """
    try:
        return _filled(network_class(config, where), config, _read(folder))
    except OSError as error:
        raise InputError(
            f"{where}: {error.filename} cannot be read ({error.strerror}); save the model again"
        ) from error
    except (Refused, torch_file.NotReadable) as error:
        raise InputError(
            f"{where}: {folder} {error}; give the whole folder that model.save_pretrained wrote"
        ) from error


def _read(folder: Path) -> dict[str, Tensor]:
    for name, reader in ((_SAFE, _safetensors), (_PICKLED, _pickled)):
        files = [folder / name] if (folder / name).is_file() else _parts(folder / f"{name}{_INDEX}")
        if files:
            tensors = {key: value for file in files for key, value in reader(file).items()}
            return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    raise Refused(f"has no {_SAFE} and no {_PICKLED}")


def _parts(index: Path) -> list[Path]:
    """Files that an index names; all lie beside it."""
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(read_text(index))["weight_map"].values()))
        paths = [index.parent / name for name in names]
    except Exception as error:  # whatever is no index breaks
        raise Refused(f"has an {index.name} that lists no files") from error
    if any(path.parent != index.parent for path in paths):
        raise Refused(f"has an {index.name} that names files elsewhere")
    return paths


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    open_regular(path).close()
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:  # whatever a header made up breaks
        raise Refused(
            f"has a {path.name} that is no safetensors file, or is damaged ({type(error).__name__})"
        ) from error
    return tensors


def _pickled(path: Path) -> dict[str, Tensor]:
    try:
        file = torch_file.read(path)
        content: Any = file.content
        if not isinstance(content, dict):
            raise Refused(f"has a {path.name} that holds no state_dict")
        return file.tensors({key: value for key, value in content.items() if isinstance(key, str)})
    except torch_file.NotReadable as error:
        raise Refused(f"has a {path.name} that {error}") from error


def _filled(kind: Any, config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A network with these weights.

    Raises:
        Refused: they are not this model's.
    """
    try:
        network, said = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), output_loading_info=True, ignore_mismatched_sizes=True,
            dtype=torch.float32, local_files_only=True, trust_remote_code=False,
        )  # fmt: skip
    except Exception as error:  # the library raises many kinds for one fact
        text = next(iter(str(error).strip().splitlines()), "")[:200]
        raise Refused(f"does not open as a {config.model_type} ({type(error).__name__}: {text})") from error
    for name, found, expected in sorted(said["mismatched_keys"]):
        raise Refused(f"is not as its config.json says: {name} is {_shape(found)}, expected {_shape(expected)}")
    for problem, key in (("lacks", "missing_keys"), ("has no place for", "unexpected_keys")):
        names = sorted(name for name in said[key] if not name.endswith(_COUNTERS))
        if names:
            raise Refused(f"is no {config.model_type}: it {problem} {_shown(names)}")
    for name, value in network.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise Refused(f"holds a NaN or an infinity in {name}")
    return network.float().eval()


def _shape(size: Sequence[int]) -> str:
    return "x".join(map(str, size))


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _MANY
    return ", ".join(names[:_MANY]) + (f" and {more} more" if more > 0 else "")
