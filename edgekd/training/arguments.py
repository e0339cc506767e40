"""The recipe's `train:` section: the engine's own arguments, checked before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.detectors.engine_guard import guard
from edgekd.errors import InputError, unknown

# What edgekd decides itself, with the key of the recipe that serves instead.
_OWNED = {
    "model": "student.model", "pretrained": "student.weights", "data": "data", "seed": "seed",
    "distill_model": "teacher", "dis": "distill[].weight", "nms": "student.head", "task": "nothing (detect)",
    "mode": "nothing (train)", "project": "--out", "name": "--out", "exist_ok": "--out", "save_dir": "--out",
    "resume": "nothing (a run goes on by itself)", "cfg": "train", "verbose": "nothing",
    "quantize": "nothing (see export)", "single_cls": "data", "val": "nothing (always on)",
    "save": "nothing (always on)",
}  # fmt: skip
_DISTILL_FORBIDS = {"compile": "the distillation taps need the eager model"}


def check_arguments(train: Mapping[str, Any], distilling: bool, where: str) -> None:
    """Check names and values.

    Raises:
        InputError: one line per problem.
    """
    guard()
    from ultralytics.cfg import DEFAULT_CFG_DICT, check_cfg

    allowed = set(DEFAULT_CFG_DICT) - set(_OWNED)
    problems = []
    for key, value in train.items():
        place = f"{where}: train.{key}"
        if key in _OWNED:
            problems.append(f"{place}: edgekd sets this itself; use {_OWNED[key]} instead")
        elif key not in allowed:
            problems.append(f"{place}: {unknown('engine argument', key, allowed)}")
        elif key == "device" and _several(value):
            problems.append(f"{place}: {value!r} names several devices; edgekd trains on one, e.g. 0 or cpu")
        elif distilling and value and key in _DISTILL_FORBIDS:
            problems.append(f"{place}: must be off when distilling: {_DISTILL_FORBIDS[key]}")
        else:
            problems += _value_problems(check_cfg, key, value, place)
    if not problems and (not isinstance(train.get("imgsz", 640), int) or train.get("imgsz", 640) % 32):
        problems.append(f"{where}: train.imgsz: must be a multiple of 32, got {train['imgsz']!r}")
    if problems:
        raise InputError(*problems)


def _several(device: Any) -> bool:
    """The engine would launch its own distributed training, which deletes the run's folder when it ends."""
    return (isinstance(device, (list, tuple)) and len(device) > 1) or (isinstance(device, str) and "," in device)


def _value_problems(check: Any, key: str, value: Any, place: str) -> list[str]:
    try:
        check({key: value}, hard=True)
    except (TypeError, ValueError) as error:
        return [f"{place}: {error}"]
    return []
