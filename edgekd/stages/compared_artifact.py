"""An artifact to compare, with the images and labels of the run that it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.atomic import as_written, read_json, sha256_file
from edgekd.data import pack as packs
from edgekd.data.pack import Pack
from edgekd.devices.run_compare import Side
from edgekd.errors import InputError
from edgekd.export.artifacts import open_artifact
from edgekd.export.contract import SIDECAR_NAME, Artifact
from edgekd.run_dir import MANIFEST, Written
from edgekd.types import GroundTruth

LABELS = Path("data") / "ground_truth-val.json"


@dataclass(frozen=True)
class Subject:
    """An artifact, its letterboxed validation images, and their labels."""

    artifact: Artifact
    pack: Pack
    truth: tuple[GroundTruth, ...]

    @property
    def side(self) -> Side:
        """What the device needs of it."""
        return Side(self.artifact.folder, self.pack.npy_path)


def subject(folder: Path, run: Path | None) -> Subject:
    """Open an artifact folder.

    Args:
        folder: with the model and its sidecar; usually RUN/export/TARGET.
        run: the run whose validation images serve; default: the one that the folder lies in.

    Raises:
        InputError: no artifact, no run, or no images of its size there; files that are not what they were.
    """
    artifact = open_artifact(folder)
    own, found = folder.resolve().parents[1], run or folder.resolve().parents[1]
    _require_as_written(own, f"export/{folder.resolve().name}/{SIDECAR_NAME}")
    _require_as_written(found, LABELS.as_posix())
    if not (found / MANIFEST).is_file() or not (found / LABELS).is_file():
        raise InputError(f"{folder}: no run with validation images around it; name one with --images RUN")
    size_px = artifact.sidecar.size_px
    for path in sorted((found / "data" / "packs").glob("val-*.json")):
        pack = packs.read(path)
        if pack.size_px == size_px:
            _require_whole(pack)
            return Subject(artifact, pack, _truth(found / LABELS))
    height, width = size_px
    raise InputError(
        f"{found}: has no validation images of {height}x{width} px, which {folder} takes; name another run"
    )


def require_comparable(reference: Subject, candidate: Subject) -> None:
    """Both detect the same classes on the same labelled images.

    Raises:
        InputError: they do not.
    """
    names = [one.artifact.sidecar.class_names for one in (reference, candidate)]
    if names[0] != names[1]:
        raise InputError(f"{candidate.artifact.folder}: has other classes than {reference.artifact.folder}")
    labels = [[(one.file_name, one.boxes_px.tobytes()) for one in subject.truth] for subject in (reference, candidate)]
    if labels[0] != labels[1]:
        raise InputError(
            f"{candidate.artifact.folder}: was measured on other images than {reference.artifact.folder}; name one run "
            "for both with --images RUN"
        )


def _require_whole(pack: Pack) -> None:
    if not pack.npy_path.is_file() or sha256_file(pack.npy_path) != pack.sha256:
        raise InputError(
            f"{pack.npy_path}: is not what was written (edited, cut or gone since); delete it and its .json, and run "
            "'edgekd validate' of its run again"
        )


def _require_as_written(run: Path, name: str) -> None:
    """In a run directory; what lies elsewhere has no manifest."""
    if (run / name).is_file():
        Written(run).require(name, sha256_file(run / name))


def _truth(path: Path) -> tuple[GroundTruth, ...]:
    with as_written(path):
        return _labels(read_json(path)["images"])


def _labels(images: Sequence[Mapping[str, Any]]) -> tuple[GroundTruth, ...]:
    return tuple(
        GroundTruth(
            one["image_id"], one["file_name"], one["height_px"], one["width_px"],
            np.asarray(one["boxes_px"], np.float32).reshape(-1, 4), np.asarray(one["class_ids"], np.int64),
            np.asarray(one["is_crowd"], np.bool_),
        )
        for one in images
    )  # fmt: skip
