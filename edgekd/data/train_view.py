"""The data set as the training engine sees it: links to the images, labels of our own, one data.yaml, all in the run.

The engine writes a cache beside the labels and rewrites JPEGs that lack their end marker. Here it finds labels that it
may write beside, and never a link to such a JPEG: those are copied with the marker appended, which leaves every pixel
as it is, where the engine's repair would encode the picture anew.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from edgekd import atomic
from edgekd.data.config import DataSet
from edgekd.data.images import is_open_jpeg
from edgekd.errors import InputError
from edgekd.progress import progress
from edgekd.types import GroundTruth, Split

_SCHEMA = "edgekd.train_view/1"
_MARKER = "view.json"
_LONGEST_STEM = 60


def write(data: DataSet, folder: Path) -> Path:
    """Make `folder` (RUN/data/train_view) show `data`; one that already does is left alone, with the engine's caches.

    Images are named by their place in the split, so that sorted names are the order of `Split.images`. Crowd boxes
    are left out of the labels.

    Returns:
        Path of data.yaml.

    Raises:
        InputError: `folder` holds something that is not a view.
        EnvironmentFault: the disk is full or read-only.
    """
    folder = Path(folder).absolute()
    marker = _marker(data, folder)
    if folder.exists():
        found = _read_marker(folder)
        if found == marker:
            return folder / "data.yaml"
        if found is None and any(folder.iterdir()):
            raise InputError(
                f"{folder}: is not a view made by edgekd (no {_MARKER}); remove it or choose another --out"
            )
    with atomic.disk_faults(folder):
        _replace(data, folder, marker)
    return folder / "data.yaml"


def view_name(position: int, total: int, file_name: str) -> str:
    """Name in the view of the image at `position` (1-based) of `total`: `000012_street.jpg`."""
    path = Path(file_name)
    stem = "".join(letter if letter.isprintable() else "_" for letter in path.stem)  # also bytes that are no UTF-8
    return f"{position:0{max(6, len(str(total)))}d}_{stem[:_LONGEST_STEM]}{path.suffix}"


def _replace(data: DataSet, folder: Path, marker: dict[str, Any]) -> None:
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        for stale in (fresh, old):  # of a killed process with the same number
            shutil.rmtree(stale, ignore_errors=True)
        fresh.mkdir(parents=True)
        with progress("train view", sum(len(split.images) for split in data.splits.values())) as advance:
            for split in data.splits.values():
                for part in ("images", "labels"):
                    (fresh / part / split.name).mkdir(parents=True)
                for position, truth in enumerate(split.images, start=1):
                    _add_image(fresh, split, truth, view_name(position, len(split.images), truth.file_name))
                    advance()
        (fresh / "data.yaml").write_text(_data_yaml(data, folder), encoding="utf-8")
        atomic.write_json(fresh / _MARKER, marker)
        if folder.exists():
            folder.replace(old)
        fresh.replace(folder)
        atomic.sync_folder(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _add_image(fresh: Path, split: Split, truth: GroundTruth, name: str) -> None:
    source = Path(split.image_dir).absolute() / truth.file_name
    target = fresh / "images" / split.name / name
    if is_open_jpeg(source):
        target.write_bytes(source.read_bytes() + b"\xff\xd9")
    else:
        try:
            target.symlink_to(source)
        except OSError:  # a file system or an account that may not link
            shutil.copyfile(source, target)
    lines = "".join(f"{line}\n" for line in _label_lines(truth))
    (fresh / "labels" / split.name / name).with_suffix(".txt").write_text(lines, encoding="utf-8")


def _label_lines(truth: GroundTruth) -> list[str]:
    lines = []
    for box, class_id, crowd in zip(truth.boxes_px.tolist(), truth.class_ids.tolist(), truth.is_crowd, strict=True):
        if not crowd:
            x1, y1, x2, y2 = box
            shares = ((x1 + x2) / 2 / truth.width_px, (y1 + y2) / 2 / truth.height_px,
                      (x2 - x1) / truth.width_px, (y2 - y1) / truth.height_px)  # fmt: skip
            lines.append(" ".join([str(class_id), *(f"{share:.9f}" for share in shares)]))
    return lines


def _data_yaml(data: DataSet, folder: Path) -> str:
    content = {
        "path": str(folder),
        **{name: f"images/{name}" for name in data.splits},
        "channels": data.channels,
        "nc": len(data.class_names),
        "names": dict(enumerate(data.class_names)),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _marker(data: DataSet, folder: Path) -> dict[str, Any]:
    return {
        "schema": _SCHEMA,
        "path": str(folder),
        "class_names": list(data.class_names),
        "channels": data.channels,
        "splits": {
            name: {"image_dir": str(Path(split.image_dir).absolute()), "content_hash": split.content_hash}
            for name, split in data.splits.items()
        },
    }


def _read_marker(folder: Path) -> Any:
    try:
        return atomic.read_json(folder / _MARKER)
    except (OSError, ValueError):
        return None
