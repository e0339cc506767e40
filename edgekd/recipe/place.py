"""Where an entry that a preset brought into a recipe stands, so that messages name the preset."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


class Place(str):
    """Written by edgekd; what a user writes is none."""


def _written_by_edgekd(given: Any) -> Any:
    if not isinstance(given, Place):
        raise ValueError("is no key of a method; remove it")
    return given


EntryPlace = Annotated[str | None, BeforeValidator(_written_by_edgekd), Field(exclude=True)]
