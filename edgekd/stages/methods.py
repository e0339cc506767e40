"""Methods for people: all of them, the card of one, and which of them serve the pair of a recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

from edgekd.distill.config import DistillerConfig, FeatureConfig
from edgekd.distill.contract import Distiller, distiller_names, distiller_type
from edgekd.distill.reads import reads
from edgekd.errors import InputError
from edgekd.plugins import package_of
from edgekd.recipe.lookup import SUFFIXES, find
from edgekd.recipe.presets import load_preset, preset_files
from edgekd.recipe.schema import DistillEnvelope
from edgekd.recipe.yaml_text import dump
from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.distillers import bind_method, near_preset
from edgekd.stages.models import build_detectors, method_problems

# What a card says for people where a method has nothing there; what is not named is left out.
_NOTHING = {
    "weight published at": "none; the default is our own", "needs": "nothing that only some pairs have",
    "reads of the student": "nothing", "reads of the teacher": "nothing",
}  # fmt: skip


def list_methods() -> list[dict[str, Any]]:
    """One row per distillation method; its keys with their defaults, but for those that say when and by whom."""
    rows = []
    for name in distiller_names():
        kind = distiller_type(name)
        defaults = kind.config_type.model_validate({}).model_dump(mode="json")
        keys = {key: value for key, value in defaults.items() if key not in ("schedule", "teacher", "share_of")}
        rows.append({
            "method": name, "level": kind.card.level, "about": kind.card.about, "package": package_of(kind),
            "keys": keys, "methods": [],
        })  # fmt: skip
    return rows


def list_presets() -> list[dict[str, Any]]:
    """One row per preset, in the form of `list_methods`, with the methods that it stands for."""
    rows = []
    for name in sorted(preset_files()):
        preset = load_preset(name)
        rows.append({
            "method": name, "level": "preset", "about": preset["about"], "package": "",
            "keys": {}, "methods": [entry["method"] for entry in preset["distill"]],
        })  # fmt: skip
    return rows


def shown_methods(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Methods and presets for people: keys that have a default, or what the preset stands for."""
    return [
        {
            **{key: value for key, value in row.items() if key != "methods"},
            "keys": ", ".join(
                row["methods"] or (f"{key}={value}" for key, value in row["keys"].items() if value is not None)
            ),
        }
        for row in rows
    ]


def preset_card(name: str) -> dict[str, Any] | None:
    """What a preset, by name or path, stands for; None where the name is a method's or nobody's.

    Raises:
        InputError: its file is faulty, or a method in it.
    """
    if name in distiller_names() or (name not in preset_files() and Path(name).suffix not in SUFFIXES):
        return None
    preset = load_preset(name)
    entries = [DistillEnvelope.model_validate(entry) for entry in preset["distill"]]
    bound = [bind_method(entry, str(find("presets", name))) for entry in entries]
    return {
        "preset": name, "about": preset["about"],
        "distill": [
            {"method": method, **config.model_dump(mode="json", exclude_defaults=True), "weight": config.weight}
            for method, config in bound
        ],
    }  # fmt: skip


def shown_preset(card: dict[str, Any]) -> list[str]:
    """Lines for people: as it would stand in a recipe."""
    written = dump({"distill": card["distill"]}).rstrip().split("\n")
    return [f"{card['preset']}: {card['about']}", "", *written]


def method_card(name: str) -> dict[str, Any]:
    """Everything that is known of a method without a pair.

    Raises:
        InputError: there is no such method.
    """
    kind = _kind(name)
    card, read = kind.card, reads(kind) or {side: ["what its pair decides"] for side in ("student", "teacher")}
    return {
        "method": name, "about": card.about, "title": card.title, "venue": card.venue, "arxiv": card.arxiv,
        "code": card.code, "level": card.level, "published gain": card.gain,
        "weight published at": card.weight_at, "package": package_of(kind),
        "needs": [_sentence(requirement.__doc__) for requirement in kind.requires],
        "reads of the student": read["student"], "reads of the teacher": read["teacher"],
        "steers the student's loss": kind.guides, "trains apart from the student": sorted(kind.auxiliary),
        "is prepared before any student": kind.prepares, "looks at all train images": kind.surveys,
        "keys": _keys(kind.config_type),
    }  # fmt: skip


def shown_card(card: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """Lines for people, and the table of keys."""
    facts = {key: card[key] or _NOTHING.get(key) for key in card if key not in ("method", "about", "keys")}
    lines = [f"{card['method']}: {card['about']}", ""]
    lines += [f"{key}: {_fact(value)}" for key, value in facts.items() if value]
    keys = [{**row, "default": _default(row["default"]), "allowed": ", ".join(row["allowed"])} for row in card["keys"]]
    return [*lines, ""], keys


def methods_for(recipe: Path, overrides: tuple[str, ...], architecture_only: bool = False) -> list[dict[str, Any]]:
    """Per method whether it can serve a recipe's student and teacher, with its defaults, and every reason why not.

    Args:
        architecture_only: build models by name; open no weights and no data.

    Raises:
        InputError: the recipe is faulty, or has no teacher.
    """
    bound = bind_recipe(recipe, (*overrides, "distill=[]"))
    if bound.recipe.teacher is None:
        raise InputError(f"{bound.where}: has no teacher; add one to see which methods serve the pair")
    with (
        tempfile.TemporaryDirectory() as scratch,
        RunDir.held(Path(scratch) / "run", bound.recipe.name, bound.base, bound.locked()) as run,
    ):
        pair = build_detectors(bound, (), 3, architecture_only=True) if architecture_only else Context(bound, run).pair
        reasons = {name: method_problems(pair, name) for name in distiller_names()}
    return [
        {"method": name, "level": distiller_type(name).card.level, "serves": not why, "why not": why}
        for name, why in sorted(reasons.items(), key=lambda entry: bool(entry[1]))
    ]


def shown_fits(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `methods_for`, for people."""
    return [{**row, "serves": "yes" if row["serves"] else "no", "why not": "; ".join(row["why not"])} for row in rows]


def _kind(name: str) -> type[Distiller]:
    try:
        return distiller_type(name)
    except KeyError as error:
        raise InputError(f"{error.args[0]}{near_preset(name)}") from None


def _keys(config: type[DistillerConfig]) -> list[dict[str, Any]]:
    """Keys with their defaults, the method's own first."""
    shared = {*DistillerConfig.model_fields, *FeatureConfig.model_fields} - {"weight"}
    ordered = sorted(config.model_fields.items(), key=lambda item: item[0] in shared)
    defaults = config.model_validate({}).model_dump(mode="json")
    return [
        {
            "key": key,
            "default": defaults[key],
            "allowed": list(get_args(field.annotation)) if _is_choice(field.annotation) else [],
            "about": field.description or "",
        }
        for key, field in ordered
    ]


def _is_choice(annotation: Any) -> bool:
    return bool(get_args(annotation)) and all(isinstance(choice, str) for choice in get_args(annotation))


def _fact(value: Any) -> str:
    return "; ".join(value) if isinstance(value, list) else "yes" if value is True else str(value)


def _default(value: Any) -> Any:
    """Of a key, for people."""
    if isinstance(value, dict):  # a schedule
        return ", ".join(f"{key}={part}" for key, part in value.items() if part is not None)
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else value


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split()).rstrip(".")
