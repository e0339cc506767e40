"""The YOLO layout: a data.yaml, image folders or lists, and one label file per image under `labels/`.

All values of labels are shares of the image after EXIF rotation. An image without a label file is background.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgekd.data import beside, problems
from edgekd.data.data_yaml import DataYaml
from edgekd.data.images import SUFFIXES
from edgekd.data.labels import Checked, RawImage, assemble
from edgekd.data.problems import ProblemLog
from edgekd.data.yolo_labels import LabelReader, label_path
from edgekd.errors import InputError
from edgekd.files import path_fault, read_text


def read_splits(data: DataYaml, log: ProblemLog, cache: Path) -> dict[str, Checked]:
    """All splits that `data` names; faults go to `log`.

    Raises:
        InputError: a list of images cannot be read.
    """
    for warning in data.warnings:
        log.warn(warning)
    paths = {
        split: _unique(split, [path for source in sources for path in _image_paths(data.path, split, source)], log)
        for split, sources in data.sources.items()
    }
    checked = {split: _read_split(split, paths[split], data, log, cache) for split in data.sources}
    _look_beside(data, paths, log)
    return checked


def _read_split(split: str, paths: list[Path], data: DataYaml, log: ProblemLog, cache: Path) -> Checked:
    reader = LabelReader(split, data, log)
    images, outlined = [], []
    for number, path in enumerate(paths, start=1):
        found = reader.read(path)
        images.append(RawImage(number, path, tuple(found.boxes), faulty=found.faulty, has_labels=found.exists))
        outlined.append(found.outlined)
    if reader.have_key_points():
        images = [replace(image, faulty=image.faulty or wrong) for image, wrong in zip(images, outlined, strict=True)]
    image_dir = _image_dir(data.sources[split], paths)
    return assemble(split, images, image_dir, listed=len(images), channels=data.channels, log=log, cache=cache)


def _look_beside(data: DataYaml, paths: dict[str, list[Path]], log: ProblemLog) -> None:
    """What lies with the images and labels and is not read."""
    expected = {label_path(path) for listed in paths.values() for path in listed}
    unread = beside.UnreadFiles(log, ignored={source for sources in data.sources.values() for source in sources})
    for split, sources in data.sources.items():
        folders = [source for source in sources if source.is_dir()]
        parents = {path.parent for path in paths[split] if not any(path.is_relative_to(folder) for folder in folders)}
        for folder, deep in [*((folder, True) for folder in folders), *((parent, False) for parent in sorted(parents))]:
            label_folder = label_path(folder / "any.png").parent
            unread.images(split, folder, deep=deep, may_hold_labels=label_folder == folder)
            unread.labels(split, folder, label_folder, expected, deep=deep)


def _image_paths(data_yaml: Path, split: str, source: Path) -> list[Path]:
    """Images of a folder (recursively), of a text file that lists them, or one image."""
    if source.is_dir():
        return [path for path in beside.files(source, deep=True) if path.suffix.lower() in SUFFIXES]
    if source.suffix.lower() in SUFFIXES:
        return [source]
    try:
        lines = read_text(source, encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{data_yaml}: {split}: cannot read the list {source} ({error}); mend it") from None
    named = [_named(source.parent, line.strip()) for line in lines if line.strip()]
    other = [path.name for path in named if path.suffix.lower() not in SUFFIXES]
    if other:
        raise InputError(
            f"{data_yaml}: {split}: {source}: {len(other)} lines name no image, e.g. {other[0]} "
            f"(allowed: {', '.join(sorted(SUFFIXES))}); list one image per line"
        )
    if fault := next((fault for path in named if (fault := path_fault(str(path)))), None):
        raise InputError(f"{data_yaml}: {split}: {source}: a line {fault}; list one image per line")
    return named


def _named(folder: Path, line: str) -> Path:
    """The image of a line. CVAT writes `data/` before paths that mean the list's own folder."""
    path, beside = (Path(os.path.normpath(folder / name)) for name in (line, line.removeprefix("data/")))
    is_prefixed = path != beside and not path_fault(str(path)) and not path.exists() and beside.exists()
    return beside if is_prefixed else path


def _image_dir(sources: tuple[Path, ...], paths: list[Path]) -> Path:
    """The folder that file names are relative to: the one that was named, or what several have in common."""
    if (len(sources) == 1 and sources[0].is_dir()) or not paths:
        return sources[0]
    return Path(os.path.commonpath([path.parent for path in paths]))


def _unique(split: str, paths: Iterable[Path], log: ProblemLog) -> list[Path]:
    """Sorted as the training engine sorts them, each once."""
    kept: list[Path] = []
    for path in sorted(paths, key=str):
        if kept and kept[-1] == path:
            log.add(split, problems.DUPLICATE_FILE, path.name)
        else:
            kept.append(path)
    return kept
