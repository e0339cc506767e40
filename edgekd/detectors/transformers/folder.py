"""What a folder of transformers says: its configuration, how pixels are normalised, names of classes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.detectors.transformers.models import Kind
from edgekd.errors import InputError
from edgekd.files import read_text

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
_NO_CLASS = ("N/A", "", "background", "__background__")
_MOST_CLASSES = 100_000
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_MOST_VALUE = 255.0


@dataclass(frozen=True)
class Convention:
    """How RGB in 0..1 becomes what the network takes: `(images - mean) / std`, by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_kind(cls, kind: Kind, channels: int) -> Convention:
        """The library's default; for another number of channels than three the mean over channels."""
        if not kind.normalised:
            return cls((0.0,) * channels, (1.0,) * channels)
        if channels == len(_IMAGENET[0]):
            return cls(*_IMAGENET)
        mean, std = (sum(values) / len(values) for values in _IMAGENET)
        return cls((mean,) * channels, (std,) * channels)


def is_folder_of_ours(path: Path) -> bool:
    """Whether a path is a folder with a `config.json`, or a file in one."""
    folder = path if path.is_dir() else path.parent
    return path.exists() and (folder / CONFIG).is_file()


def read_config(folder: Path, where: str) -> tuple[str, dict[str, Any]]:
    """Model type, and the content of `config.json`, in which every column has a name.

    Raises:
        InputError: missing, unreadable, or its classes are no list.
    """
    content = _json(folder / CONFIG, where)
    model_type = content.get("model_type")
    if not isinstance(model_type, str):
        raise InputError(f"{where}: {folder / CONFIG} has no model_type; give the folder of a transformers detector")
    content.pop("auto_map", None)  # where code of its own would lie
    names = class_columns(content, f"{where}: {folder / CONFIG}")
    if names is not None:
        content["id2label"] = dict(enumerate(names))
        content["label2id"] = {name: index for index, name in enumerate(names)}
        content.pop("num_labels", None)
    return model_type, content


def class_columns(content: Mapping[str, Any], where: str) -> list[str] | None:
    """Names by column; `N/A` where the numbers of `id2label` leave a gap. None: it names none.

    Raises:
        InputError: it is no mapping of numbers to names.
    """
    given = content.get("id2label")
    if given is None:
        return None
    try:
        names = {int(key): str(value) for key, value in given.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{where}: id2label is no mapping of numbers to names; correct it") from error
    if not names or min(names) < 0 or max(names) >= _MOST_CLASSES:
        raise InputError(f"{where}: id2label has numbers outside 0..{_MOST_CLASSES - 1}, or none; correct it")
    return [names.get(column, _NO_CLASS[0]) for column in range(max(names) + 1)]


def kept(names: Sequence[str]) -> tuple[int, ...]:
    """Columns that are classes."""
    return tuple(column for column, name in enumerate(names) if name not in _NO_CLASS)


def read_convention(folder: Path, kind: Kind, channels: int, where: str) -> Convention:
    """From `preprocessor_config.json`; its size and padding are not used, edgekd letterboxes.

    Raises:
        InputError: missing, unreadable, or for other images.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        raise InputError(
            f"{where}: {folder} has no {PROCESSOR}, which says how pixels are normalised; save the image processor "
            "there, too (processor.save_pretrained)"
        )
    content = _json(path, where)
    scale = _MOST_VALUE
    if content.get("do_rescale", True):
        scale *= _number(content.get("rescale_factor", 1 / _MOST_VALUE), f"{where}: {path}: rescale_factor")
    if not content.get("do_normalize", kind.normalised):
        return Convention((0.0,) * channels, (1 / scale,) * channels)
    values = []
    for key, default in zip(("image_mean", "image_std"), _IMAGENET, strict=True):
        given = content.get(key) or default
        if not isinstance(given, (list, tuple)) or len(given) != channels:
            raise InputError(
                f"{where}: {path}: {key} is {given}, and the model takes {channels} channels: a processor of another "
                "model; save the model's own there"
            )
        values.append([_number(value, f"{where}: {path}: {key}") for value in given])
    mean, std = values
    if min(std) <= 0:
        raise InputError(f"{where}: {path}: image_std is {std}; every value must be above 0")
    return Convention(tuple(value / scale for value in mean), tuple(value / scale for value in std))


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{where} is {value!r}, no number; correct it")
    return float(value)


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read ({error.strerror}); give a folder with it") from error
    except ValueError as error:
        raise InputError(f"{where}: {path} is no JSON; save the model again (model.save_pretrained)") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: {path} is no JSON object; save the model again (model.save_pretrained)")
    return content
