"""Model YAMLs by name: those that ship with Ultralytics, plus for tiny devices a width-0.125 "p" scale of YOLO and two
small RT-DETRs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from edgekd.detectors.ultralytics import tiny_rtdetr, untrusted
from edgekd.detectors.ultralytics.guard import guard
from edgekd.errors import InputError, unknown
from edgekd.plain import value
from edgekd.recipe.instead import WEIGHTS
from edgekd.recipe.yaml_text import read_mapping

PICO_WIDTH = 0.125
_PICO_STEMS = {"yolov8", "yolo11", "yolo26"}  # YOLO12's area attention needs at least 32 channels per block
_NAMED = re.compile(r"(yolov8|yolo11|yolo12|yolo26)([a-z]|-.*)?|rtdetr(-.*)?")
_VERSIONS = {"yolov8": "v8", "yolo11": "11", "yolo12": "12", "yolo26": "26", "rtdetr": "rt-detr"}


def architecture(name: str, where: str) -> dict[str, Any]:
    """The model YAML of `name` as a dict, with `scale` set.

    Args:
        name: `yolo26n`, `yolo11p`, `rtdetr-l`, ... or the path of a YAML file in the engine's form.
        where: key of the recipe, for messages.

    Raises:
        InputError: unknown name or scale, unreadable file.
    """
    if name.endswith((".yaml", ".yml")):
        return _from_file(Path(name), where)
    if name.endswith(WEIGHTS):
        raise InputError(f"{where}: {name} is a file of weights; write 'weights: {name}' in place of 'model: {name}'")
    guard()
    from ultralytics.utils import ROOT, YAML

    match = re.fullmatch(r"(yolov8|yolo11|yolo12|yolo26)([a-z])", name)
    stem, scale = (match[1], match[2]) if match else (name, "")
    folder = ROOT / "cfg" / "models" / _VERSIONS.get(stem.split("-")[0], "none")
    path = folder / f"{stem}.yaml"
    if name not in tiny_rtdetr.NAMES and not path.is_file():
        raise InputError(f"{where}: {unknown('model', name, known_names())}")
    config: dict[str, Any] = tiny_rtdetr.tiny_rtdetr(name) if name in tiny_rtdetr.NAMES else YAML.load(path)
    scales = config.get("scales") or {}
    if match:
        config["scales"] = {"p": _pico(scales), **scales} if stem in _PICO_STEMS else scales
        scale_names = sorted(config["scales"])
        if scale not in config["scales"]:
            raise InputError(f"{where}: {unknown('scale', scale, scale_names)} of {stem}")
    elif scales:
        scale = next(iter(scales))
    return {**config, "scale": scale, "yaml_file": f"{name}.yaml"}


def is_named(model: str) -> bool:
    """Whether `model` means one of this family, or a file that this family explains."""
    return model.endswith((".yaml", ".yml", *WEIGHTS)) or bool(_NAMED.fullmatch(model))


def known_names() -> list[str]:
    """Every model name that a recipe may use."""
    stems = ("yolov8", "yolo11", "yolo12", "yolo26")
    yolo = [f"{stem}{scale}" for stem in stems for scale in "pnsmlx" if scale != "p" or stem in _PICO_STEMS]
    return [*yolo, *tiny_rtdetr.NAMES, "rtdetr-l", "rtdetr-x", "rtdetr-resnet50", "rtdetr-resnet101"]


def _pico(scales: dict[str, list[float]]) -> list[float]:
    """Half the width of the nano scale, at its depth."""
    depth, _, max_channels = scales["n"]
    return [depth, PICO_WIDTH, max_channels]


def _from_file(path: Path, where: str) -> dict[str, Any]:
    try:
        config = read_mapping(path)
    except InputError as error:
        raise InputError(*(f"{where}: {problem}" for problem in error.problems)) from None
    if not {"nc", "backbone", "head"} <= set(config):
        raise InputError(f"{where}: {path} is no model YAML (needs the keys nc, backbone, head)")
    scales = config.get("scales") or {}
    if not isinstance(scales, dict):
        raise InputError(f"{where}: {path}: scales: must be a mapping of keys, got {value(scales)}")
    described = {"scale": next(iter(scales), ""), **config, "yaml_file": path.name}
    guard()
    try:
        untrusted.check_config(config)
        untrusted.check_extent(described, 3)
    except untrusted.Refused as error:
        raise InputError(f"{where}: {path} {error}") from error
    return described
