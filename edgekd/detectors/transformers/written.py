"""Trained students of transformers as files: safetensors whose header holds configuration, classes and convention."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from edgekd.detectors import described
from edgekd.detectors.transformers import library
from edgekd.detectors.transformers.folder import Convention
from edgekd.detectors.transformers.network import prepare
from edgekd.errors import InputError

if TYPE_CHECKING:
    from edgekd.detectors.transformers.detector import TransformersDetector

FILES = tuple(f"student{suffix}" for suffix in (".float32.safetensors", ".safetensors"))
_REMEDY = "give a student that edgekd trained, or the folder of a transformers model"


def described_as(detector: TransformersDetector, names: tuple[str, ...]) -> dict[str, Any]:
    """What it takes to build a detector's network anew for these classes."""
    module: Any = detector.module
    config = deepcopy(module.config.to_dict())
    config["id2label"] = dict(enumerate(names))
    config["label2id"] = {name: index for index, name in enumerate(names)}
    return {
        "family": "transformers",
        "model": detector.spec.name,
        "model_type": module.config.model_type,
        "config": config,
        "classes": list(names),
        "mean": module.pixel_mean.flatten().tolist(),
        "std": module.pixel_std.flatten().tolist(),
    }


def network_of(said: Mapping[str, Any], where: str = "transformers") -> Any:
    """A network with random weights from torch's global generator.

    Raises:
        InputError: the library does not build it.
    """
    config = dict(said["config"])
    config["id2label"] = {int(key): str(name) for key, name in config["id2label"].items()}
    made = library.built(library.config_of(str(said["model_type"]), config, where), where)
    return prepare(made, Convention(tuple(said["mean"]), tuple(said["std"])))


def write(detector: TransformersDetector, path: Path, facts: Mapping[str, Any], *, half: bool) -> None:
    """Weights, what they are of, and facts."""
    names = tuple(detector.column_names)
    described.write(detector.module, path, {**described_as(detector, names), **facts}, half)


def is_ours(path: Path) -> bool:
    """Whether a file says that it is one of these."""
    return (described.header_of(path) or {}).get("family") == "transformers"


def read(path: Path, where: str) -> tuple[Any, dict[str, Any]]:
    """Network and header of a file.

    Raises:
        InputError: damaged, or none of these.
    """
    try:
        said, tensors = described.read(path)
        network = network_of(said, where)
        network.load_state_dict(tensors)
    except InputError:
        raise
    except Exception as error:  # whatever a header made up breaks
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise InputError(
            f"{where}: {path} is no student of transformers, or is damaged ({type(error).__name__}: {reason}); "
            f"{_REMEDY}"
        ) from error
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{where}: {path} holds a NaN or an infinity in {name}; {_REMEDY}")
    return network, said
