"""A data.yaml: names, channels, key points, and where the images of each split are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.data.class_names import name_fault
from edgekd.errors import InputError
from edgekd.files import path_fault
from edgekd.plain import listed, value
from edgekd.recipe.yaml_text import read_mapping

SPLITS = ("train", "val", "test")
_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
MOST_CLASSES, MOST_CHANNELS = 30_000, 64


@dataclass(frozen=True)
class DataYaml:
    """A data.yaml with its defaults filled in.

    Attributes:
        sources: split -> files and folders, absolute.
        keypoint_columns: columns behind the box that belong to key points (`kpt_shape`), ignored.
        warnings: what is wrong with a `test` split, which no stage uses.
    """

    path: Path
    class_names: tuple[str, ...]
    channels: int
    sources: dict[str, tuple[Path, ...]]
    keypoint_columns: int
    warnings: tuple[str, ...] = ()


def read_data_yaml(path: Path, base: Path) -> DataYaml:
    """Read and check a data.yaml. Its `path:` is taken from the file's own folder, else from `base`.

    Raises:
        InputError: all faults of the file at once.
    """
    content = read_mapping(path, {"names": "all"}, "give the path of a data.yaml")
    faults: list[str] = []
    names = _class_names(content, faults)
    channels = content.get("channels", 3)
    if type(channels) is not int or not 1 <= channels <= MOST_CHANNELS:
        faults.append(f"channels: {value(channels)} is not a whole number of 1 to {MOST_CHANNELS}")
        channels = 3
    warnings: list[str] = []
    sources = _sources(content, path, base, faults, warnings)
    columns = _keypoint_columns(content, faults)
    if faults:
        raise InputError(*(f"{path}: {fault}" for fault in faults))
    return DataYaml(path, names, channels, sources, columns, tuple(warnings))


def _class_names(content: dict[str, Any], faults: list[str]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if names is None and type(count) is int and count > 0:
        if count > MOST_CLASSES:
            faults.append(f"nc: {count} classes are more than {MOST_CLASSES:,}; correct it")
        return tuple(f"class_{number}" for number in range(min(count, MOST_CLASSES)))
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        faults.append("names: must list the class names, or map 0, 1, ... to them")
        return ()
    if len(names) > MOST_CLASSES:
        faults.append(f"names: {len(names):,} classes are more than {MOST_CLASSES:,}; leave most of them out")
        return ()
    if not all(isinstance(number, str) and number.isdecimal() and len(number) < 10 for number in names):
        faults.append(f"names: keys must be 0..{len(names) - 1}")
        return ()
    numbered = {int(number): name for number, name in names.items()}
    if sorted(numbered) != list(range(len(names))):
        faults.append(f"names: keys must be 0..{len(names) - 1}, found {value(sorted(numbered))}")
    faults.extend(f"names[{number}]: {fault}" for number, name in numbered.items() if (fault := name_fault(name)))
    found = tuple(str(numbered[number]) for number in sorted(numbered))
    repeated = sorted(name for name, times in Counter(found).items() if times > 1)
    if repeated:
        faults.append(f"names: {listed(repeated)} given more than once; every class needs a name of its own")
    if count is not None and count != len(found):
        faults.append(f"nc: {value(count)} does not match the {len(found)} names")
    return found


def _sources(
    content: dict[str, Any], path: Path, base: Path, faults: list[str], warnings: list[str]
) -> dict[str, tuple[Path, ...]]:
    root_given = content.get("path") or "."
    if not isinstance(root_given, str) or path_fault(root_given):
        faults.append(f"path: {value(root_given)} is not a path")
        root_given = "."
    roots = [(folder / root_given).resolve() for folder in (path.parent, base)]
    root = next((folder for folder in roots if folder.is_dir()), roots[0])
    content = _with_usual_names(content)
    sources: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        given = content.get(split)
        if given is None or given == "":
            if split != "test":
                faults.append(f"{split}: missing; name a folder of images or a list of them")
            continue
        entries = given if isinstance(given, list) else [given]
        if not entries or not all(isinstance(entry, str) and entry and not path_fault(entry) for entry in entries):
            faults.append(f"{split}: {value(given)} is neither a path nor a list of paths")
            continue
        meant = [_meant(root, entry) for entry in entries]
        found = tuple(next((path for path in paths if path.exists()), paths[0]) for paths in meant)
        missing = [_not_there(paths) for paths in meant if not any(path.exists() for path in paths)]
        if missing and split == "test":
            warnings.append(f"test: {missing[0]}; no stage uses test, so it is left out")
            continue
        sources[split] = found
        faults.extend(f"{split}: {fault}; correct the path" for fault in missing)
    return sources


def _with_usual_names(content: dict[str, Any]) -> dict[str, Any]:
    """Splits under the names used here, where they stand under others: CVAT writes `Train:` and `Validation:`."""
    known = {str(key).lower(): given for key, given in reversed(content.items())}
    usual = {split: next((name for name in names if name in known), None) for split, names in _NAMES.items()}
    return {**{split: known[name] for split, name in usual.items() if name is not None}, **content}


def _meant(root: Path, entry: str) -> list[Path]:
    """What an entry may mean, the likeliest first: as it is written, and where exporters mean something else.

    Some exporters write `../train/images` for a folder beside the data.yaml; the training engine allows it. Of YOLOv5,
    the `roboflow` package writes the folder's own name ahead, `street-1/train/images`.
    """
    names = (entry, entry.removeprefix("../"), entry.removeprefix(f"{root.name}/"))
    return list(dict.fromkeys(Path(os.path.normpath(root / name)) for name in names))


def _not_there(paths: Sequence[Path]) -> str:
    return f"{paths[0]} does not exist" + "".join(f", nor does {path}" for path in paths[1:])


def _keypoint_columns(content: dict[str, Any], faults: list[str]) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not (
        isinstance(shape, list) and len(shape) == 2 and all(type(size) is int and 0 < size < 10_000 for size in shape)
    ):
        faults.append(f"kpt_shape: {value(shape)} is not [number, dimensions]")
        return 0
    return int(shape[0] * shape[1])
