"""The recipe's `train:` section: the engine's own arguments, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(item) for item in value)


def _is_several(device: Any) -> bool:
    """The engine would launch its own distributed training, which deletes the run's folder when it ends."""
    return (isinstance(device, (list, tuple)) and len(device) > 1) or (isinstance(device, str) and "," in device)


_OPTIMIZERS = ("auto", "SGD", "MuSGD", "Adam", "Adamax", "AdamW", "NAdam", "RAdam", "RMSprop")
# Values that the engine would accept and misread, or meet with a traceback: key -> (test, what is allowed).
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch": (lambda value: _is_count(value) and value >= 1, "a number of images, 1 or more"),
    "imgsz": (lambda value: _is_count(value) and value >= 32 and value % 32 == 0, "a multiple of 32"),
    "workers": (_is_count, "a number of processes, 0 or more"),
    "optimizer": (lambda value: str(value).lower() in {name.lower() for name in _OPTIMIZERS}, ", ".join(_OPTIMIZERS)),
    "cache": (lambda value: value in (True, False, "ram", "disk"), "true, false, ram or disk"),
    "freeze": (lambda value: _is_count(value) or _is_counts(value), "a number of layers, or a list of layer numbers"),
    "device": (lambda value: not _is_several(value), "one device, e.g. 0 or cpu: edgekd trains on one"),
}
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
        elif value is not None and key in _ALLOWED and not _ALLOWED[key][0](value):
            problems.append(f"{place}: got {value!r}, allowed: {_ALLOWED[key][1]}")
        elif distilling and value and key in _DISTILL_FORBIDS:
            problems.append(f"{place}: must be off when distilling: {_DISTILL_FORBIDS[key]}")
        else:
            problems += _value_problems(check_cfg, key, value, place)
    if problems:
        raise InputError(*problems)


def _value_problems(check: Any, key: str, value: Any, place: str) -> list[str]:
    try:
        check({key: value}, hard=True)
    except (TypeError, ValueError) as error:
        return [f"{place}: {error}"]
    return []
