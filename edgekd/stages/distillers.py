"""Binds the methods of a recipe, its own and those of presets, to their keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from edgekd.distill.config import DistillerConfig
from edgekd.distill.contract import distiller_names, distiller_type
from edgekd.errors import InputError
from edgekd.recipe.load import bind
from edgekd.recipe.presets import preset_files
from edgekd.recipe.schema import DistillEnvelope


def bind_methods(
    entries: Sequence[DistillEnvelope], where: str, key: str
) -> Iterator[Callable[[], tuple[str, DistillerConfig]]]:
    """What binds each entry, or tells what is wrong with it.

    Args:
        where: the file, for messages.
        key: `distill` or `quantize.distill`.
    """
    for index, entry in enumerate(entries):
        yield partial(bind_method, entry, where, f"{key}[{index}]")


def bind_method(entry: DistillEnvelope, where: str, place: str = "") -> tuple[str, DistillerConfig]:
    """A method's name and its keys.

    Args:
        place: of the entry in the file; one that a preset brought has its own.

    Raises:
        InputError: there is no such method, or a key of it is wrong.
    """
    place = entry.place or place
    try:
        kind = distiller_type(entry.method)
    except KeyError as error:
        raise InputError(f"{where}: {place}.method: {error.args[0]}{near_preset(entry.method)}") from None
    return entry.method, bind(kind.config_type, entry.rest, where, place)


def near_preset(name: str) -> str:
    """`; did you mean the preset ...` for a name that is no method's; empty without a guess."""
    near = difflib.get_close_matches(name, preset_files(), n=1)
    return f"; did you mean the preset '{near[0]}'?" if near else ""


def refuse_hidden_methods(where: str) -> None:
    """Refuse a preset of a user that would take a method's place.

    Raises:
        InputError: names its file.
    """
    problems = [
        f"{where}: distill: {path} has the name of a method; rename the file"
        for name, path in preset_files().items()
        if name in distiller_names()
    ]
    if problems:
        raise InputError(*problems)


def long_form(methods: Sequence[tuple[str, DistillerConfig]]) -> list[dict[str, Any]]:
    """As entries of a recipe, with every default."""
    return [{"method": name, **config.model_dump(mode="json")} for name, config in methods]
