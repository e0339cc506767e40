"""Names of the columns of class logits: torchvision's files have none, only their number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.files import read_text

_NO_CLASS = ("__background__", "N/A")
_COCO_COLUMNS = 91


def of_data(names: Sequence[str]) -> tuple[str, ...]:
    """Columns of fresh weights for these classes; without any those of COCO."""
    return (_NO_CLASS[0], *names) if names else coco()


def coco() -> tuple[str, ...]:
    """The 91 of torchvision's weights for COCO: the background, 80 classes and ten numbers that no class has."""
    from torchvision.models._meta import _COCO_CATEGORIES

    return tuple(_COCO_CATEGORIES)


def of_weights(count: int, path: Path, said: Any, where: str) -> tuple[str, ...]:
    """Columns of a file's class layer.

    Args:
        count: how many it has.
        path: of the weights; class names may stand in a JSON of this name beside it: {"classes": [...]}.
        said: the names in the weights' own header; None without.
        where: key of the recipe, for messages.

    Raises:
        InputError: there are names, and not as many.
    """
    beside = path.with_suffix(".json")
    if said is None and beside.is_file():
        said = _in_json(beside, where)
    if said is None:
        return coco() if count == _COCO_COLUMNS else (_NO_CLASS[0], *(f"class {index}" for index in range(1, count)))
    if len(said) == count - 1:
        return (_NO_CLASS[0], *said)
    if len(said) != count:
        raise InputError(
            f"{where}: {path} has {count} columns of classes, and {len(said)} class names are given; give {count - 1}, "
            f"or {count} with the background's"
        )
    return tuple(said)


def kept(names: Sequence[str]) -> tuple[int, ...]:
    """Columns that are classes."""
    return tuple(column for column, name in enumerate(names) if name not in _NO_CLASS)


def _in_json(path: Path, where: str) -> list[str]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {path} cannot be read as JSON; mend it, or take it away") from error
    found = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise InputError(f'{where}: {path} has no list of class names under "classes"; add it, or take the file away')
    return found
