"""Presets: names that stand for a list of methods, each a YAML file with `about` and `distill`.

`distill: rtmdet-mmyolo`, or among own entries `distill: [rtmdet-mmyolo, {method: logit}]`; or the path of a YAML file.
They are written out when a recipe is read, so `--set distill.0.weight=2` and the locked recipe see methods alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.errors import InputError, unknown
from edgekd.plain import value as shown_value
from edgekd.recipe.lookup import SUFFIXES, available, find
from edgekd.recipe.place import Place
from edgekd.recipe.yaml_text import read_mapping

_KEYS = {"about", "distill"}


def with_presets(content: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe's content with every preset written out, in `distill` and in `quantize.distill`.

    Raises:
        InputError: there is no such preset, or its file is not one.
    """
    if "distill" in content:
        content = {**content, "distill": _expanded(content["distill"], f"{where}: distill")}
    quantize = content.get("quantize")
    if isinstance(quantize, dict) and "distill" in quantize:
        expanded = _expanded(quantize["distill"], f"{where}: quantize.distill")
        content = {**content, "quantize": {**quantize, "distill": expanded}}
    return content


def load_preset(name: str) -> dict[str, Any]:
    """A preset by name or path: `about`, and `distill`, whose entries know the preset as their place.

    Raises:
        InputError: there is none, or its file does not have these two keys.
    """
    path = find("presets", name)
    content = read_mapping(path)
    if set(content) != _KEYS:
        wrong = [f"'{key}' is missing" for key in sorted(_KEYS - set(content))]
        wrong += [f"'{key}' is no key of one" for key in sorted(map(str, set(content) - _KEYS))]
        raise InputError(f"preset {path}: {', '.join(wrong)}; a preset has the keys about and distill")
    about, entries = content["about"], content["distill"]
    if not isinstance(about, str) or not isinstance(entries, list) or not entries:
        given = shown_value(about if not isinstance(about, str) else entries)
        raise InputError(f"preset {path}: about must be text and distill a list of methods, got {given}")
    long = [{"method": entry} if isinstance(entry, str) else entry for entry in entries]
    for index, entry in enumerate(long):
        if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
            raise InputError(f"preset {path}: distill[{index}]: must name a method, got {shown_value(entry)}")
    return {
        "about": about,
        "distill": [{**entry, "place": Place(f"preset {name}: distill[{index}]")} for index, entry in enumerate(long)],
    }


def preset_files() -> dict[str, Path]:
    """Name -> file of everything that a recipe can name."""
    return available("presets")


def instead_of_list(place: str, given: Any) -> str:
    """`, or the name of a preset ...` for a word that stands where a list of methods is needed; else empty."""
    if place not in ("distill", "quantize.distill") or not isinstance(given, str):
        return ""
    text = unknown("preset", given, preset_files())
    return f", or the name of a preset{text[text.index(' (known') :]}"


def _expanded(given: Any, where: str) -> Any:
    """A list without presets; anything else, faulty or not, is left as it is."""
    if not isinstance(given, (str, list, tuple)):
        return given
    known = preset_files()  # once: folders are read for it, and a list may be long
    if isinstance(given, str):
        return _written_out(given, where) if _is_one(given, known) else given
    entries: list[Any] = []
    for index, entry in enumerate(given):
        name = _named(entry)
        if name is None or not _is_one(name, known):
            entries.append(entry)
        elif isinstance(entry, dict) and len(entry) > 1:
            raise InputError(f"{where}[{index}]: a preset has no further keys; copy its methods to change them")
        else:
            entries += _written_out(name, f"{where}[{index}]")
    return entries


def _written_out(name: str, where: str) -> list[Any]:
    try:
        entries: list[Any] = load_preset(name)["distill"]
    except InputError as error:
        raise InputError(*(f"{where}: {problem}" for problem in error.problems)) from None
    return entries


def _is_one(name: str, known: Mapping[str, Path]) -> bool:
    return Path(name).suffix in SUFFIXES or name in known


def _named(entry: Any) -> str | None:
    """The name in a short or a long form, of a method or of a preset."""
    if isinstance(entry, Mapping) and "place" not in entry:
        entry = entry.get("method")
    return entry if isinstance(entry, str) else None
