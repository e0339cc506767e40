"""Reads a recipe: YAML without duplicate keys, `--set` overrides, and every schema error at once, one line each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from edgekd.errors import InputError, unknown
from edgekd.plain import MOST_LISTED
from edgekd.plain import value as shown_value
from edgekd.progress import say
from edgekd.recipe import instead
from edgekd.recipe.presets import instead_of_list, with_presets
from edgekd.recipe.renamed import with_new_keys, with_new_places
from edgekd.recipe.schema import Recipe, with_long_forms
from edgekd.recipe.yaml_text import Names, parse, read_mapping, reason

Model = TypeVar("Model", bound=BaseModel)
_NAMES: Names = {"gate.min_ap_per_class": "keys", "teacher.classes": "keys"}  # of classes: text as written


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        path: YAML file.
        overrides: `key.path=value` texts; the value is YAML, list items are addressed by number (`distill.0.weight=2`).

    Raises:
        InputError: one line per problem.
    """
    return bind(Recipe, read_recipe(path, overrides), str(path))


def read_recipe(path: Path, overrides: Iterable[str] = (), *, tell: bool = True) -> dict[str, Any]:
    """A recipe's content, overrides applied, presets and short forms written out, not yet validated.

    Args:
        tell: say on standard error where a former name of a key is used.

    Raises:
        InputError: not a YAML mapping, an unknown preset, or one line per override that fits nowhere.
    """
    return completed(content_of(path), path, overrides, tell=tell)


def content_of(path: Path) -> dict[str, Any]:
    """What a recipe's file holds, as it stands there.

    Raises:
        InputError: not a YAML mapping, or a file of another tool.
    """
    content = read_mapping(path, _NAMES)
    if foreign := instead.of_foreign_file(content, path):
        raise InputError(f"{path}: {foreign}")
    return content


def completed(
    content: dict[str, Any], path: Path, overrides: Iterable[str] = (), *, tell: bool = True
) -> dict[str, Any]:
    """As `read_recipe`, of a recipe that was made in Python; `path` stands for it in messages."""
    content, notes = with_new_keys(content, path)
    content = with_long_forms(with_presets(content, str(path)))
    overrides, more_notes = with_new_places(overrides)
    for note in (*notes, *more_notes) if tell else ():
        say(note)
    problems: list[str] = []
    for override in overrides:
        try:
            apply_override(content, override)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return with_presets(content, str(path))  # an override may name one


def sound_parts(content: Mapping[str, Any]) -> Recipe:
    """Of a faulty recipe those sections that are sound by themselves, so that their own problems are told as well.

    Required sections that are not sound are left unset: ask `model_fields_set`.
    """
    sound: dict[str, Any] = {}
    with_bounds: Any = Annotated
    for name, field in Recipe.model_fields.items():
        key = field.alias or name
        with suppress(ValidationError):
            if key in content and field.annotation is not None:
                parts = (field.annotation, *field.metadata, None)
                kind = with_bounds[parts]
                sound[key] = TypeAdapter(kind).validate_python(content[key])
    return Recipe.model_construct(**sound)


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
        found = error.errors(include_url=False)
        told = [_line(model, problem, where, prefix) for problem in found[:MOST_LISTED]]
        raise InputError(*told, *(str(problem["msg"]) for problem in found[MOST_LISTED:])) from None


def _line(model: type[BaseModel], problem: Any, where: str, prefix: str) -> str:
    location = _dotted(problem["loc"], prefix)
    place = f"{where}: {location}" if location else where
    kind, given = problem["type"], problem.get("input")
    if kind == "extra_forbidden":
        name, known = str(problem["loc"][-1]), _known_keys(model, problem["loc"][:-1])
        place_of_it = instead.of_unknown_key(name, given, _sections(model)) if location == name else ""
        return f"{place}: {unknown('key', name, known)}{place_of_it}"
    if kind == "missing":
        return f"{place}: missing; this key is required{_choices(model, problem['loc'])}"
    if problem["loc"][-1:] == ("[key]",):
        return f"{where}: {_dotted(problem['loc'][:-2], prefix)}: keys must be text, got {shown_value(given)}"
    if kind in ("model_type", "dict_type", "tuple_type", "list_type"):
        needed = "list" if kind in ("tuple_type", "list_type") else "mapping of keys"
        better = instead.of_wrong_type(location, kind, given) + instead_of_list(location, given)
        return f"{place}: must be a {needed}, got {shown_value(given)}{better}"
    message = problem["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(given, (dict, list)) else f", got {shown_value(given)}"
    better = instead.of_share(kind, given, problem.get("ctx", {}))
    if kind == "string_type":
        better = instead.of_no_text(location, given)
    elif kind == "string_pattern_mismatch":
        better = instead.of_name(location, given)
    return f"{place}: {message[0].lower()}{message[1:]}{shown}{better}"


def _choices(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """` (one of a, b)` for a key with few values."""
    field = _fields(model, location[:-1]).get(str(location[-1]))
    choices = get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()
    return f" (one of {', '.join(map(str, choices))})" if len(choices) > 1 else ""


def _sections(model: type[BaseModel]) -> dict[str, list[str]]:
    """The keys inside each section of a recipe."""
    return {key: keys for key in _known_keys(model, ()) if (keys := _known_keys(model, (key,)))}


def _dotted(location: tuple[int | str, ...], prefix: str) -> str:
    text = prefix
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed at `location`; empty where the way there leaves pydantic models."""
    return [field.alias or name for name, field in _fields(model, location).items()]


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> dict[str, Any]:
    """Fields of the model at `location`."""
    current: Any = model
    names_next = False  # of a mapping of names to models
    for part in location:
        if isinstance(part, int) or names_next:
            names_next = False
            continue
        fields = getattr(current, "model_fields", {})
        field = fields.get(part) or next((one for one in fields.values() if one.alias == part), None)
        inner = _types(field.annotation) if field else []
        names_next = any(getattr(annotation, "__origin__", None) is dict for annotation in inner)
        current = next((annotation for annotation in inner if hasattr(annotation, "model_fields")), None)
    return dict(getattr(current, "model_fields", {}))


def _types(annotation: Any) -> list[Any]:
    arguments = getattr(annotation, "__args__", ())
    return [annotation, *(nested for argument in arguments for nested in _types(argument))]


def apply_override(content: dict[str, Any], override: str) -> None:
    """Put a value at its place in a recipe's content, long forms written out: `key.path=value`.

    Raises:
        InputError: there is no such place, or the value is no YAML.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: expected key.path=value, e.g. --set train.epochs=10")
    try:
        parsed = parse(value, _NAMES, key)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not valid YAML ({reason(error)})") from error
    current: Any = content
    parts = key.split(".")
    try:
        for part in parts[:-1]:
            current = current[_number(part)] if isinstance(current, list) else current.setdefault(part, {})
        if isinstance(current, list):
            current[_number(parts[-1])] = parsed
        else:
            current[parts[-1]] = parsed
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"--set {override}: no such place in the recipe; list items are numbered from 0") from error


def _number(part: str) -> int:
    if not part.isdecimal():  # not -1, which would be the last item without saying so
        raise ValueError(part)
    return int(part)
