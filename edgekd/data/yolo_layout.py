"""The YOLO layout: a data.yaml, image folders or lists, and one label file per image under `labels/`.

A label line is `class x_center y_center width height` or a polygon `class x1 y1 x2 y2 x3 y3 ...`, which becomes its
box; all values are shares of the image after EXIF rotation. An image without a label file is background.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekd.data import problems
from edgekd.data.class_names import name_fault
from edgekd.data.images import SUFFIXES
from edgekd.data.labels import RawBox, RawImage, assemble, finite, relative
from edgekd.data.problems import ProblemLog
from edgekd.errors import InputError
from edgekd.recipe.yaml_text import read_mapping
from edgekd.types import Split

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DataYaml:
    """A data.yaml with its defaults filled in.

    Attributes:
        sources: split -> files and folders, absolute.
        keypoint_columns: columns behind the box that belong to key points (`kpt_shape`), ignored.
    """

    path: Path
    class_names: tuple[str, ...]
    channels: int
    sources: dict[str, tuple[Path, ...]]
    keypoint_columns: int


def read_splits(data: DataYaml, log: ProblemLog, cache: Path) -> dict[str, Split]:
    """All splits that `data` names; faults go to `log`.

    Raises:
        InputError: a source is missing, or a split has no images or no label.
    """
    splits = {}
    for split, sources in data.sources.items():
        paths = _unique(split, [path for source in sources for path in _image_paths(data.path, split, source)], log)
        image_dir = _image_dir(sources, paths)
        images = [
            RawImage(number, path, tuple(_read_labels(split, path, data, log)))
            for number, path in enumerate(paths, start=1)
        ]
        splits[split] = assemble(split, images, image_dir, channels=data.channels, log=log, cache=cache)
    return splits


def read_data_yaml(path: Path, base: Path) -> DataYaml:
    """Read and check a data.yaml. Its `path:` is taken from the file's own folder, else from `base`.

    Raises:
        InputError: all faults of the file at once.
    """
    content = read_mapping(path, {"names": "all"}, "give the path of a data.yaml")
    faults: list[str] = []
    names = _class_names(content, faults)
    channels = content.get("channels", 3)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        faults.append(f"channels: {channels!r} is not a whole number of 1 or more")
        channels = 3
    sources = _sources(content, path, base, faults)
    columns = _keypoint_columns(content, faults)
    if faults:
        raise InputError(*(f"{path}: {fault}" for fault in faults))
    return DataYaml(path, names, channels, sources, columns)


def label_path(image: Path) -> Path:
    """Where the labels of `image` are: the last folder `images` becomes `labels`, the suffix `.txt`."""
    parts = list(image.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def _class_names(content: dict[str, Any], faults: list[str]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if names is None and isinstance(count, int) and count > 0:
        return tuple(f"class_{number}" for number in range(count))
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        faults.append("names: must list the class names, or map 0, 1, ... to them")
        return ()
    if not all(isinstance(number, str) and number.isdecimal() for number in names):
        faults.append(f"names: keys must be 0..{len(names) - 1}")
        return ()
    numbered = {int(number): name for number, name in names.items()}
    if sorted(numbered) != list(range(len(names))):
        faults.append(f"names: keys must be 0..{len(names) - 1}, found {sorted(numbered)}")
    faults.extend(f"names[{number}]: {fault}" for number, name in numbered.items() if (fault := name_fault(name)))
    found = tuple(str(numbered[number]) for number in sorted(numbered))
    repeated = sorted({name for name in found if found.count(name) > 1})
    if repeated:
        faults.append(f"names: {', '.join(repeated)} given more than once; every class needs a name of its own")
    if count is not None and count != len(found):
        faults.append(f"nc: {count} does not match the {len(found)} names")
    return found


def _sources(content: dict[str, Any], path: Path, base: Path, faults: list[str]) -> dict[str, tuple[Path, ...]]:
    root_given = content.get("path") or "."
    if not isinstance(root_given, str):
        faults.append(f"path: {root_given!r} is not a path")
        root_given = "."
    roots = [(folder / root_given).resolve() for folder in (path.parent, base)]
    root = next((folder for folder in roots if folder.is_dir()), roots[0])
    if "val" not in content and "validation" in content:
        content = {**content, "val": content["validation"]}
    sources: dict[str, tuple[Path, ...]] = {}
    for split in SPLITS:
        given = content.get(split)
        if given is None:
            if split != "test":
                faults.append(f"{split}: missing; name a folder of images or a list of them")
            continue
        entries = given if isinstance(given, list) else [given]
        if not entries or not all(isinstance(entry, str) and entry for entry in entries):
            faults.append(f"{split}: {given!r} is neither a path nor a list of paths")
            continue
        sources[split] = tuple(_resolved(root, entry) for entry in entries)
        faults.extend(
            f"{split}: {source} does not exist; correct the path" for source in sources[split] if not source.exists()
        )
    return sources


def _resolved(root: Path, entry: str) -> Path:
    """Some exporters write `../train/images` for a folder beside the data.yaml; the training engine allows it."""
    path = Path(os.path.normpath(root / entry))
    beside = Path(os.path.normpath(root / entry.removeprefix("../")))
    return beside if not path.exists() and beside.exists() else path


def _keypoint_columns(content: dict[str, Any], faults: list[str]) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(size, int) and size > 0 for size in shape)):
        faults.append(f"kpt_shape: {shape!r} is not [number, dimensions]")
        return 0
    return int(shape[0] * shape[1])


def _image_paths(data_yaml: Path, split: str, source: Path) -> list[Path]:
    """Images of a folder (recursively), of a text file that lists them, or one image."""
    if source.is_dir():
        pattern = Path(glob.escape(str(source))) / "**" / "*.*"
        found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 (a Path's own glob does not follow links)
        return [Path(name) for name in found if Path(name).suffix.lower() in SUFFIXES]
    if source.suffix.lower() in SUFFIXES:
        return [source]
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{data_yaml}: {split}: cannot read the list {source} ({error}); mend it") from None
    named = [Path(os.path.normpath(source.parent / line.strip())) for line in lines if line.strip()]
    other = [path.name for path in named if path.suffix.lower() not in SUFFIXES]
    if other:
        raise InputError(
            f"{data_yaml}: {split}: {source}: {len(other)} lines name no image, e.g. {other[0]} "
            f"(allowed: {', '.join(sorted(SUFFIXES))}); list one image per line"
        )
    return named


def _image_dir(sources: tuple[Path, ...], paths: list[Path]) -> Path:
    """The folder that file names are relative to: the one that was named, or what several have in common."""
    if (len(sources) == 1 and sources[0].is_dir()) or not paths:
        return sources[0]
    return Path(os.path.commonpath([path.parent for path in paths]))


def _unique(split: str, paths: list[Path], log: ProblemLog) -> list[Path]:
    """Sorted as the training engine sorts them, each once."""
    kept: list[Path] = []
    for path in sorted(paths, key=str):
        if kept and kept[-1] == path:
            log.add(split, problems.DUPLICATE_FILE, path.name)
        else:
            kept.append(path)
    return kept


def _read_labels(split: str, image: Path, data: DataYaml, log: ProblemLog) -> Iterator[RawBox]:
    path = label_path(image)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        log.add(split, problems.UNREADABLE_LABELS, f"{_shown(path, data)} ({type(error).__name__})")
        return
    seen: set[tuple[str, ...]] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        columns = tuple(line.split())
        where = f"{_shown(path, data)}:{number}"
        if columns in seen:
            log.add(split, problems.REPEATED_LINE, where)
        elif columns:
            seen.add(columns)
            box = _box_of_line(split, where, columns, data, log)
            if box is not None:
                yield box


def _box_of_line(split: str, where: str, columns: tuple[str, ...], data: DataYaml, log: ProblemLog) -> RawBox | None:
    if data.keypoint_columns and len(columns) == 5 + data.keypoint_columns:
        columns = columns[:5]
    if len(columns) != 5 and (len(columns) < 7 or len(columns) % 2 == 0):
        log.add(split, problems.WRONG_COLUMNS, f"{where} ({len(columns)} columns)")
        return None
    numbers = [finite(column) for column in columns]
    values = [number for number in numbers if number is not None]
    if len(values) != len(columns):
        log.add(split, problems.NOT_A_NUMBER, f"{where} ({columns[numbers.index(None)]})")
        return None
    class_id, shape = values[0], values[1:]
    if class_id not in range(len(data.class_names)):
        allowed = f"0..{len(data.class_names) - 1}"
        log.add(split, problems.CLASS_RANGE, f"{where} (class {columns[0]}, allowed {allowed})")
        return None
    if len(shape) == 4:
        x, y, wide, tall = shape
        if wide < 0 or tall < 0:
            log.add(split, problems.NEGATIVE_SIZE, f"{where} ({wide:g} x {tall:g})")
            return None
        corners = (x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2)
    else:
        corners = (min(shape[0::2]), min(shape[1::2]), max(shape[0::2]), max(shape[1::2]))
    return RawBox(where, int(class_id), corners, is_share=True)


def _shown(path: Path, data: DataYaml) -> str:
    """Short for messages: relative to the data.yaml where that is possible."""
    folder = data.path.parent.resolve()
    return relative(path, folder) if path.is_relative_to(folder) else str(path)
