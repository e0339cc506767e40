"""A `yolo train` configuration (args.yaml), taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.recipe.instead import WEIGHTS
from edgekd.recipe.yaml_text import read_mapping
from edgekd.training.arguments import check_arguments
from edgekd.training.engines.arguments import OWNED, REFUSED, EngineArguments

_ALWAYS = ("epochs", "batch", "imgsz")


@dataclass(frozen=True)
class Taken:
    """What an args.yaml says.

    Attributes:
        data: the data.yaml.
        student: name of a model, or weights.
        train: arguments that differ from the engine's defaults, and those that every recipe should say.
        left_out: a line for each argument that was given and is not taken over.
    """

    data: str
    student: str | None
    train: dict[str, Any]
    left_out: tuple[str, ...]


def read(path: Path) -> Taken:
    """Read an args.yaml.

    Raises:
        InputError: it is none, or of another task.
    """
    content = read_mapping(path, advice="give the args.yaml of a `yolo train`")
    if content.get("task", "detect") != "detect" or content.get("mode", "train") != "train":
        raise InputError(
            f"{path}: task {content.get('task')}, mode {content.get('mode')}: only detect and train are taken"
        )
    if not isinstance(content.get("data"), str):
        raise InputError(
            f"{path}: names no data; give the args.yaml of a `yolo train`, which lies in runs/detect/train"
        )
    defaults = {name: field.default for name, field in EngineArguments.model_fields.items()}
    train, left_out = {}, []
    for key, value in content.items():
        if value is None or key in OWNED or (key not in _ALWAYS and value == defaults.get(key, object())):
            continue
        if reason := _refused(key, value):
            left_out += [reason] if _is_news(key, value) else []
        else:
            train[key] = value
    student = content.get("model")
    return Taken(_found(content["data"], path), str(student) if student else None, train, tuple(left_out))


def student(given: str | None, folders: tuple[Path, ...]) -> dict[str, Any] | None:
    """`yolo11n.pt`, `yolo11n.yaml` or a file of weights, as a recipe's student; None where none is given."""
    if given is None:
        return None
    path = Path(given)
    here = next((folder / path for folder in folders if (folder / path).is_file()), None)
    if path.suffix in WEIGHTS and here is not None:
        return {"weights": str(here)}
    return {"model": path.with_suffix("").name if path.parent == Path() else given}


def _refused(key: str, value: Any) -> str | None:
    try:
        check_arguments({key: value}, True, "args.yaml")
    except InputError as error:
        return error.problems[0]
    return None


def _is_news(key: str, value: Any) -> bool:
    """Whether somebody set it, as far as one can tell: an args.yaml holds every argument, used or not."""
    import_defaults: Mapping[str, Any] = _engine_defaults()
    return key not in REFUSED or value != import_defaults.get(key, value)


def _engine_defaults() -> Mapping[str, Any]:
    from edgekd.training.engines.defaults import engine_defaults

    return engine_defaults()


def _found(data: str, arguments: Path) -> str:
    """A relative path of an args.yaml is one from the folder in which `yolo` ran, of which nothing is known."""
    folders = (Path(), *arguments.resolve().parents)
    return next((str(folder / data) for folder in folders if (folder / data).is_file()), data)
