"""What to write instead: for what people write out of habit, or because another tool takes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from edgekd.plain import cut, word
from edgekd.run_dir import LOCKED_RECIPE

WEIGHTS = (".pt", ".pth", ".safetensors", ".onnx", ".engine")
# Arguments of `yolo train` that people give where no section is: those that a first recipe needs, and common others.
TRAIN_KEYS = frozenset((
    "epochs", "imgsz", "batch", "device", "workers", "lr0", "lrf", "optimizer", "momentum", "weight_decay",
    "warmup_epochs", "patience", "cos_lr", "amp", "cache", "freeze", "mosaic", "mixup", "close_mosaic", "fraction",
    "hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "fliplr", "flipud",
))  # fmt: skip
# What another tool calls a format, or people a machine -> the target or device that one most likely wants.
MEANT = {
    "export": {
        "onnx": "onnx-fp32", "openvino": "openvino-fp32", "engine": "tensorrt-fp16", "tensorrt": "tensorrt-fp16",
        "trt": "tensorrt-fp16", "tflite": "litert-fp32", "litert": "litert-fp32", "ncnn": "ncnn-fp16",
        "executorch": "executorch-xnnpack", "mlmodel": "coreml", "mlpackage": "coreml",
    },
    "devices": dict.fromkeys(("cpu", "gpu", "cuda", "cuda:0", "0", "host", "here", "localhost", "pc"), "local"),
}  # fmt: skip

_MOST_PARTS = 20
_PRECISIONS = {"int8": "int8", "half": "fp16"}
# Section -> the key that a bare word is meant for, and the words that it takes.
_SECTIONS = {"profile": ("protocol", ("quick", "full", "sustained")), "quantize": ("mode", ("ptq", "qat"))}
_FOREIGN: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"backbone", "head"}),
     "is the YAML of a model, not a recipe; name it in one: student: {{model: {path}}}"),
    (frozenset({"task", "mode", "model"}),
     "holds the arguments of `yolo train`, not a recipe; copy those that you want into the section train: of one"),
    (frozenset({"transport"}), "is the file of a device, not a recipe; name it in one: devices: [{path}]"),
    (frozenset({"runtimes"}), "is the file of a device, not a recipe; name it in one: devices: [{path}]"),
    (frozenset({"steps", "runtime"}), "is the file of a target, not a recipe; name it in one: export: [{path}]"),
)  # fmt: skip


def of_foreign_file(content: Mapping[str, Any], path: Path) -> str | None:
    """What a file is that was given for a recipe, and how a recipe names it; None where it may be a recipe."""
    keys = {str(key) for key in content}
    if "student" in keys:
        return None
    if keys & {"names", "nc"} and keys & {"train", "val", "path"} and "backbone" not in keys:
        return f"is a data.yaml, not a recipe; name it in one: data: {{format: yolo, path: {path}}}"
    return next((text.format(path=path) for signs, text in _FOREIGN if signs <= keys), None)


def of_wrong_type(place: str, kind: str, given: Any) -> str:
    """`; write ...` for a list or a mapping that is needed where something else was given; empty without a guess.

    Args:
        place: dotted key inside the file, such as `export` or `gate.max_p90_ms`.
        kind: pydantic's name of the error.
    """
    if kind in ("tuple_type", "list_type"):
        return f"; write {_list(place, given)}"
    instead = _mapping(place, given)
    return f"; write {instead}" if instead else ""


def of_no_text(place: str, given: Any) -> str:
    """For numbers and truth values where text is needed."""
    if place.startswith("devices["):
        return "; devices are where artifacts are measured: write local; the GPU that trains is train.device"
    return "; put it in quotes" if isinstance(given, (bool, int, float)) else ""


def of_name(place: str, given: Any) -> str:
    """For a name with signs that are not allowed in one."""
    if place != "name" or not isinstance(given, str):
        return ""
    fit = re.sub(r"[^A-Za-z0-9._-]+", "-", given).strip("-._")
    return f"; use letters, digits, '.', '_' and '-'{f', as in {cut(fit)}' if fit else ''}"


def of_share(kind: str, given: Any, bounds: Mapping[str, Any]) -> str:
    """For percentages where a share of 1 is meant: `40`, `40%`."""
    if kind in ("less_than_equal", "less_than") and 1 in (bounds.get("le"), bounds.get("lt")) and 1 < given <= 100:
        return f"; it is a share of 1: write {given / 100:g}"
    if kind in ("float_type", "float_parsing") and isinstance(given, str) and given.endswith("%"):
        try:
            return f"; it is a share of 1: write {float(given[:-1]) / 100:g}"
        except ValueError:
            return ""
    return ""


def of_unknown_key(name: str, given: Any, sections: Mapping[str, Any]) -> str:
    """`; write ...` for a key at the top of a recipe that has its place in a section; empty without a guess.

    Args:
        sections: name -> the keys of each section.
    """
    if name in ("model", "weights", "pretrained"):
        return f"; write student: {_model(given)}"
    if name in _PRECISIONS:
        return f"; write export: [onnx-{_PRECISIONS[name]}]"
    if name.startswith(("min_", "max_")):
        return f"; write gate: {{{name}: {flow(given)}}}"
    owners = ["train"] if name in TRAIN_KEYS else [section for section, keys in sections.items() if name in keys]
    return f"; write {owners[0]}: {{{name}: {flow(given)}}}" if owners else ""


def flow(given: Any) -> str:
    """A value as YAML on one line; `...` for one with many parts, whose writing out would take its time."""
    import yaml

    if sum(1 for _ in islice(_parts(given), _MOST_PARTS)) == _MOST_PARTS:
        return "..."
    text: str = yaml.safe_dump(given, default_flow_style=True, width=10_000, allow_unicode=True)
    return cut(" ".join(text.removesuffix("...\n").split()))


def _parts(given: Any) -> Iterator[Any]:
    """The value, and all that is in it."""
    yield given
    for part in given.values() if isinstance(given, dict) else given if isinstance(given, list) else ():
        yield from _parts(part)


def _list(place: str, given: Any) -> str:
    if given is None or isinstance(given, bool):
        return "a list of names, [] for none, or leave it out"
    meant = MEANT.get(place, {}).get(str(given))
    return f"[{meant or flow(given)}]"


def _mapping(place: str, given: Any) -> str:
    if isinstance(given, str):
        key, words = _SECTIONS.get(place, ("", ()))
        if place in ("student", "teacher"):
            return f"{place}: {_model(given, place)}"
        if place == "data":
            return f"data: {_data(given)}"
        if given in words:
            return f"{place}: {{{key}: {given}}}"
    if place.startswith("gate") and isinstance(given, (int, float)) and not isinstance(given, bool):
        return _budget(place.removeprefix("gate").removeprefix("."), given)
    return ""


def _budget(name: str, given: float) -> str:
    if not name:
        return f"gate: {{min_ap: {given:g}}}"
    return f"{name}: {{{'CLASS' if name.endswith('_per_class') else 'TARGET@DEVICE'}: {given:g}}}"


def _model(given: Any, role: str = "student") -> str:
    if str(given).endswith(WEIGHTS):
        return f"{{weights: {given}}}"
    return f"{{model: {given}}}" if role == "student" else f"{{weights: {given}.pt}}"


def _data(given: str) -> str:
    if given == "digits":
        return "{format: digits}"
    if given.endswith(".json"):
        return f"{{format: coco, train: {{images: FOLDER, annotations: {given}}}, val: ...}}"
    path = given if given.endswith((".yaml", ".yml")) else f"{given.rstrip('/')}/data.yaml"
    return f"{{format: yolo, path: {path}}}"


def of_no_recipe(path: Path) -> str | None:
    """What is given for a recipe though it is none, and what to do with it; None where that is not known."""
    if path.suffix in WEIGHTS:
        return f"is a file of weights, not a recipe; name it in one: teacher: {{weights: {path}}}"
    if (path / LOCKED_RECIPE).is_file():
        return (
            f"is a run directory, not a recipe; its own is {path / LOCKED_RECIPE}, and commands on the run such as "
            f"'edgekd export {word(path)}' take the directory"
        )
    return None
