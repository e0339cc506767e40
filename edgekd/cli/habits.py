"""What to type instead: for commands, options and arguments that another tool has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekd.recipe.instead import MEANT, TRAIN_KEYS

_RUN = "'edgekd run RECIPE --out RUN'"
_PREDICT = (
    "the student opens in Ultralytics, e.g. 'yolo predict model=RUN/student/student.pt source=IMAGE', and "
    "'edgekd bundle RUN --target T' packs an exported file with an example"
)
_COMMANDS = {
    "train": f"{_RUN} trains and measures, 'edgekd distill RECIPE --out RUN' trains alone",
    "fit": f"{_RUN} trains and measures, 'edgekd distill RECIPE --out RUN' trains alone",
    "detect": f"edgekd always detects: {_RUN}",
    "val": "'edgekd validate RUN' measures AP of what a run exported",
    "test": "'edgekd validate RUN' measures AP of what a run exported",
    "eval": "'edgekd validate RUN' measures AP of what a run exported",
    "predict": _PREDICT,
    "track": _PREDICT,
    "benchmark": "'edgekd profile RUN' measures latency, 'edgekd validate RUN' AP, 'edgekd compare A B' two of them",
    "bench": "'edgekd profile RUN' measures latency, 'edgekd validate RUN' AP, 'edgekd compare A B' two of them",
    "quantize": "'export: [onnx-int8]' in the recipe, then 'edgekd export RUN'",
    "resume": f"{_RUN} goes on where it stopped",
    "checks": "'edgekd doctor'",
    "version": "'edgekd --version'",
    "help": "'edgekd --help'",
}
_PLACES = {
    "model": "student.model", "weights": "student.weights", "teacher": "teacher.weights", "data": "data.path",
    "conf": "validate.conf", "iou": "validate.iou", "format": "export", "export": "export", "seed": "seed",
    "threads": "threads", "protocol": "profile.protocol", "devices": "devices",
}  # fmt: skip
_OUT = ("--project", "--name", "--save-dir", "--output", "-o")
_GOES_ON = ("--resume", "--exist-ok")
_MISSING = {
    "--out": "name a folder to write, e.g. --out runs/first",
    "recipe": "give a recipe: a YAML file, or a built-in one such as quickstart",
    "run_dir": "give the directory of a run: what --out of 'edgekd run' named",
    "--target": "give a target that the run exported, e.g. --target onnx-fp32",
}


def advice(message: str, command: str, commands: Sequence[str]) -> str | None:
    """What to do about a usage error.

    Args:
        message: the parser's.
        command: which one was given; empty for none.
        commands: those of its group.

    Returns:
        None where nothing better than the help is known.
    """
    if found := re.search(r"No such command '([^']+)'", message):
        known = f"there are {', '.join(commands)}"
        return _COMMANDS.get(found[1], None if "Did you mean" in message else known)
    if found := re.search(r"No such option:? '?(--?[\w-]+)", message):
        return _of_option(found[1])
    if found := re.search(r"unexpected extra argument\S* \((.+)\)", message):
        return _of_arguments(found[1].split(), command)
    return next((text for name, text in _MISSING.items() if re.search(rf"Missing .*'{name}'", message, re.I)), None)


def _of_option(name: str) -> str | None:
    if name in _OUT:
        return "write --out RUN"
    if name in _GOES_ON:
        return "a run goes on by itself: give the same command"
    place = _place(name.lstrip("-").replace("-", "_"))
    return f"write --set {place}=..." if place else None


def _of_arguments(given: list[str], command: str) -> str | None:
    """`epochs=10`, as `yolo` takes them; a device without its option."""
    if command == "doctor":
        return f"write --device {given[0]}"
    for one in given:
        key, separator, value = one.partition("=")
        if separator and re.fullmatch(r"[A-Za-z]\w*(\.\w+)*", key):
            value = f"[{MEANT['export'].get(value, value)}]" if key == "format" else value
            return f"write --set {_place(key) or key}={value}"
    return None


def _place(key: str) -> str | None:
    """Where a recipe has what other tools call so."""
    return f"train.{key}" if key in TRAIN_KEYS else _PLACES.get(key)
