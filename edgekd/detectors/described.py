"""Safetensors whose header says what the weights are: the form in which detectors of any family are handed on.

No file that is read here can run code. The header is a JSON object under the key `edgekd`: class names, what the family
needs to build the network, and facts such as AP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgekd.atomic import atomic_path

_KEY = "edgekd"


def write(network: nn.Module, path: Path, header: Mapping[str, Any], half: bool = True) -> None:
    """Write a network's weights.

    Args:
        half: floating-point numbers as float16.
    """
    from safetensors.torch import save_file

    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(header, default=str)})
        temporary.chmod(0o644)  # the library makes it readable for its owner alone


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors; floating-point numbers as float32.

    Raises:
        Exception: of many kinds, for one fact: the file is none that `write` made, or is damaged.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as reader:
        header = _header(reader)
        tensors = {name: reader.get_tensor(name).clone() for name in reader.keys()}  # noqa: SIM118
    return header, {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}


def header_of(path: Path) -> dict[str, Any] | None:
    """The header alone; None where there is none that can be read."""
    from safetensors import safe_open

    try:
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as reader:
            return _header(reader)
    except Exception:  # whatever a header made up breaks
        return None


def _header(reader: Any) -> dict[str, Any]:
    header = json.loads((reader.metadata() or {})[_KEY])
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header
