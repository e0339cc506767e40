"""What is searched: the choices of each kind of knowledge that the recipe and the pair allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias, cast

from edgekd.distill.searched.options import CHOICES, DEFAULTS, WEIGHTS, Kind
from edgekd.errors import InputError, unknown
from edgekd.recipe.search import SearchRecipe
from edgekd.search.distillers.candidates import Candidate, Parts, config_of
from edgekd.stages.models import RunDetectors, method_problems

Choices: TypeAlias = Mapping[str, tuple[str | float, ...]]
WEIGHT = "weight"
# Of the published distillers; a kind without a published one has 1.
PUBLISHED_WEIGHTS: Mapping[Kind, float] = {
    "global": 5.0, "fgbg": 2.0, "instance": 1.0, "logits": 1.0, "localisation": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Space:
    """The choices per kind, by key, the weight among them.

    Attributes:
        left_out: kinds that cannot serve the pair -> why.
    """

    kinds: Mapping[Kind, Choices]
    left_out: Mapping[Kind, str]

    @property
    def entries(self) -> int:
        """Settings of one entry of a recipe, summed over the kinds."""
        return sum(prod(map(len, choices.values())) for choices in self.kinds.values())

    @property
    def candidates(self) -> int:
        """Lists of one entry or none of each kind."""
        return prod(1 + prod(map(len, choices.values())) for choices in self.kinds.values())

    def published(self, kind: Kind) -> Candidate | None:
        """What the paper found for a kind, alone; None where that is not in the space."""
        parts: Parts = {**DEFAULTS[kind], WEIGHT: PUBLISHED_WEIGHTS[kind]}
        return {kind: parts} if all(parts[key] in allowed for key, allowed in self.kinds[kind].items()) else None

    def as_json(self) -> dict[str, Any]:
        """Kind -> key -> choices."""
        return {kind: {key: list(allowed) for key, allowed in choices.items()} for kind, choices in self.kinds.items()}


def space_of(recipe: SearchRecipe, pair: RunDetectors, where: str) -> Space:
    """The space of a recipe for its pair.

    Raises:
        InputError: nothing is left of it, or the recipe names what there is not.
    """
    problems = _problems(recipe, f"{where}: search")
    if problems:
        raise InputError(*problems)
    asked = [cast("Kind", kind) for kind in recipe.kinds] or list(CHOICES)
    reasons = {kind: _why_not(pair, kind) for kind in asked}
    left_out = {kind: reason for kind, reason in reasons.items() if reason}
    if recipe.kinds and left_out:
        raise InputError(*(f"{where}: search.kinds: {kind}: {reason}" for kind, reason in left_out.items()))
    kinds = {kind: _choices(recipe, kind) for kind in asked if kind not in left_out}
    if not kinds:
        told = "; ".join(dict.fromkeys(left_out.values()))
        raise InputError(f"{where}: search: the space is empty: no kind of knowledge can serve the pair ({told})")
    return Space(kinds, left_out)


def _choices(recipe: SearchRecipe, kind: Kind) -> Choices:
    given = recipe.space.get(kind, {})
    everything: dict[str, Sequence[str | float]] = {**CHOICES[kind], WEIGHT: WEIGHTS}
    return {key: tuple(given.get(key, allowed)) for key, allowed in everything.items()}


def _problems(recipe: SearchRecipe, where: str) -> list[str]:
    """What the recipe names that there is not, and lists without anything."""
    problems = [f"{where}.kinds: {unknown('kind', kind, CHOICES)}" for kind in recipe.kinds if kind not in CHOICES]
    for kind, keys in recipe.space.items():
        if kind not in CHOICES or (recipe.kinds and kind not in recipe.kinds):
            problems.append(f"{where}.space: {unknown('kind', kind, recipe.kinds or CHOICES)}")
            continue
        known = CHOICES[cast("Kind", kind)]
        for key, values in keys.items():
            problems += _problems_of(f"{where}.space.{kind}", key, values, known)
    return problems


def _problems_of(where: str, key: str, values: Sequence[Any], known: Mapping[str, Sequence[str]]) -> list[str]:
    if key not in (*known, WEIGHT):
        return [f"{where}: {unknown('key', key, (*known, WEIGHT))}"]
    if not values:
        return [f"{where}.{key}: is empty, and so is the space; name at least one, or leave the key out for all"]
    if twice := [value for place, value in enumerate(values) if value in values[:place]]:
        return [f"{where}.{key}: {twice[0]} is given twice; leave one out"]
    if key == WEIGHT:
        wrong = [value for value in values if not isinstance(value, (int, float)) or value <= 0]
        return [f"{where}.{key}: got {value!r}, allowed: numbers above 0" for value in wrong]
    return [f"{where}.{key}: {unknown(key, str(value), known[key])}" for value in values if value not in known[key]]


def _why_not(pair: RunDetectors, kind: Kind) -> str:
    """Why a kind cannot serve the pair; empty if it can."""
    return "; ".join(method_problems(pair, "searched", config_of(kind, {})))
