"""A candidate: at most one entry of `searched` per kind of knowledge. None at all is the control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from edgekd.distill.config import DistillerConfig
from edgekd.distill.searched.options import CHOICES, Kind, SearchedConfig

METHOD = "searched"
Parts: TypeAlias = Mapping[str, str | float]
Candidate: TypeAlias = Mapping[Kind, Parts]
Params: TypeAlias = Mapping[str, str | float]
CONTROL: Candidate = {}
ON, OFF = "on", "off"


def config_of(kind: Kind, parts: Parts) -> SearchedConfig:
    """The keys of an entry."""
    return SearchedConfig.model_validate({"knowledge": kind, **parts})


def methods_of(candidate: Candidate) -> tuple[tuple[str, DistillerConfig], ...]:
    """As a training takes them."""
    return tuple((METHOD, config_of(kind, parts)) for kind, parts in candidate.items())


def entries_of(candidate: Candidate) -> list[dict[str, Any]]:
    """As a recipe states them."""
    return [{"method": METHOD, "knowledge": kind, **parts} for kind, parts in candidate.items()]


def params_of(candidate: Candidate, kinds: Mapping[Kind, Any]) -> dict[str, str | float]:
    """As a study keeps them: `<kind>` on or off, and `<kind>.<key>` of those that are on."""
    found: dict[str, str | float] = {}
    for kind in kinds:
        found[kind] = ON if kind in candidate else OFF
        found |= {f"{kind}.{key}": value for key, value in candidate.get(kind, {}).items()}
    return found


def candidate_of(params: Params) -> Candidate:
    """The reverse of `params_of`."""
    return {
        kind: {key.removeprefix(f"{kind}."): value for key, value in params.items() if key.startswith(f"{kind}.")}
        for kind in CHOICES
        if params.get(kind) == ON
    }


def in_words(candidate: Candidate) -> str:
    """On one line: `global channel > pool2 > unit_n, l1 x 5; logits ...`."""
    return "; ".join(_entry_in_words(kind, parts) for kind, parts in candidate.items()) or "control"


def _entry_in_words(kind: Kind, parts: Parts) -> str:
    keys = [str(value) for key, value in parts.items() if key not in ("distance", "weight") and value != "none"]
    return f"{kind} {' > '.join(keys) or 'plain'}, {parts['distance']} x {parts['weight']:g}"
