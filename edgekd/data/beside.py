"""What lies with the images and labels of a data set and is not read: half of the labels may be among it."""

from __future__ import annotations

import glob
from collections.abc import Collection
from pathlib import Path

from edgekd.data import problems
from edgekd.data.images import SUFFIXES
from edgekd.data.problems import ProblemLog

_NOT_MEANT = frozenset({"classes.txt", "desktop.ini", "notes.json", "readme.md", "readme.txt", "thumbs.db"})
_CACHES = frozenset({".cache", ".npy"})  # of the training engine


def files(folder: Path, *, deep: bool) -> list[Path]:
    """Files with a suffix under `folder`, links followed, hidden ones left out."""
    pattern = Path(glob.escape(str(folder))) / ("**/*.*" if deep else "*.*")
    found = glob.glob(str(pattern), recursive=True)  # noqa: PTH207 (a Path's own glob does not follow links)
    return [Path(name) for name in found]


class UnreadFiles:
    """Reports each unread file once, to the first split that it lies with.

    Args:
        ignored: files that are read as something else.
    """

    def __init__(self, log: ProblemLog, ignored: Collection[Path] = ()) -> None:
        self._log = log
        self._seen = set(ignored)
        self._files: dict[tuple[Path, bool], list[Path]] = {}

    def images(self, split: str, folder: Path, *, deep: bool, may_hold_labels: bool) -> None:
        """Files among the images that are of no suffix that is read."""
        for path in self._listed(folder, deep):
            if path.suffix.lower() not in SUFFIXES and not (may_hold_labels and path.suffix == ".txt"):
                self._add(split, problems.UNREAD_FILE, path, folder)

    def labels(
        self, split: str, image_folder: Path, label_folder: Path, expected: Collection[Path], *, deep: bool
    ) -> None:
        """Label files that belong to no image, and files that are no labels by their suffix.

        Args:
            expected: label files of all images of the set.
        """
        unknown = [path for path in self._listed(label_folder, deep) if path not in expected]
        images = self._images_without_suffix(image_folder, deep) if unknown else set()
        for path in unknown:
            if path.suffix != ".txt":
                if path.suffix.lower() not in SUFFIXES:
                    self._add(split, problems.UNREAD_FILE, path, label_folder)
            elif (image_folder / path.relative_to(label_folder)).with_suffix("") not in images:
                self._add(split, problems.LABELS_ALONE, path, label_folder)

    def unlisted(self, split: str, folder: Path, listed: Collection[Path]) -> None:
        """Images that no annotation file of the set lists, and files of no suffix that is read."""
        for path in self._listed(folder, True):
            if path.suffix.lower() not in SUFFIXES:
                self._add(split, problems.UNREAD_FILE, path, folder)
            elif path not in listed:
                self._add(split, problems.UNLISTED_IMAGE, path, folder)

    def _listed(self, folder: Path, deep: bool) -> list[Path]:
        if (folder, deep) not in self._files:
            self._files[folder, deep] = sorted(files(folder, deep=deep))
        return self._files[folder, deep]

    def _images_without_suffix(self, folder: Path, deep: bool) -> set[Path]:
        return {path.with_suffix("") for path in self._listed(folder, deep) if path.suffix.lower() in SUFFIXES}

    def _add(self, split: str, kind: str, path: Path, folder: Path) -> None:
        if path not in self._seen and _is_meant(path) and path.is_file():
            self._seen.add(path)
            self._log.add(split, kind, path.relative_to(folder).as_posix())


def _is_meant(path: Path) -> bool:
    return path.name.lower() not in _NOT_MEANT and path.suffix.lower() not in _CACHES
