"""Reads a recipe: YAML without duplicate keys, `--set` overrides, and every schema error at once, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from edgekd.errors import InputError, unknown
from edgekd.recipe.schema import Recipe

Model = TypeVar("Model", bound=BaseModel)


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: YAML file.
        overrides: `key.path=value` texts; the value is YAML, list items are addressed by number (`distill.0.weight=2`).

    Raises:
        InputError: one line per problem.
    """
    content = read_yaml(path)
    for override in overrides:
        _apply(content, override)
    return bind(Recipe, content, str(path))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: missing, not YAML, not a mapping, or a key twice.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506  (a SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); correct the path") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping of keys, got {type(content).__name__}")
    return content


def bind(model: type[Model], content: Mapping[str, Any], where: str, prefix: str = "") -> Model:
    """Validate `content` against a pydantic model.

    Args:
        where: file name for messages.
        prefix: path of `content` inside the file, e.g. `distill[0]`.

    Raises:
        InputError: one line per problem: file, key, what was given, what is allowed.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(*(_line(model, problem, where, prefix) for problem in error.errors())) from None


def _line(model: type[BaseModel], problem: Any, where: str, prefix: str) -> str:
    location = _dotted(problem["loc"], prefix)
    place = f"{where}: {location}" if location else where
    if problem["type"] == "extra_forbidden":
        return f"{place}: {unknown('key', str(problem['loc'][-1]), _known_keys(model, problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{place}: missing; this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = "" if isinstance(given, (dict, list)) else f", got {given!r}"
    return f"{place}: {message[0].lower()}{message[1:]}{shown}"


def _dotted(location: tuple[int | str, ...], prefix: str) -> str:
    text = prefix
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed at `location`; empty where the way there leaves pydantic models."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = next((arg for arg in _types(field.annotation) if hasattr(arg, "model_fields")), None) if field else None
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _types(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(nested for argument in arguments for nested in _types(argument))]


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: expected key.path=value, e.g. --set train.epochs=10")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not valid YAML") from error
    current: Any = content
    parts = key.split(".")
    try:
        for part in parts[:-1]:
            current = current[int(part)] if isinstance(current, list) else current.setdefault(part, {})
        if isinstance(current, list):
            current[int(parts[-1])] = parsed
        else:
            current[parts[-1]] = parsed
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"--set {override}: no such place in the recipe ({part if len(parts) > 1 else key})") from error


class _UniqueKeys(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if isinstance(key, str) and keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)
