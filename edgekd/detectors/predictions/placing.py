"""Which image of the data each detection of a file is on.

A text is the end of an image's path, with its suffix or without (`000012.jpg`, `val/000012`). A number is COCO's
`image_id` where the split has such, else it is the name of the file: 12 for `000012.jpg`, as YOLO's results have it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import PurePath
from typing import TypeVar

from edgekd.errors import InputError
from edgekd.types import Split

Key = TypeVar("Key")
Place = tuple[str, int]  # split, and the image's place in it


class Places:
    """Finds images by what a file calls them."""

    def __init__(self, splits: Mapping[str, Split], numbered: Set[str]) -> None:
        """`numbered`: names of the splits whose image ids are those that a user knows."""
        self._splits, self._numbered = splits, numbered
        self._by_depth: dict[int, dict[str, list[Place]]] = {}
        self._by_number: dict[int, list[Place]] | None = None

    def of(self, name: int | str) -> list[Place]:
        """Every image that may be meant."""
        if isinstance(name, int):
            if self._by_number is None:
                self._by_number = _grouped(self._numbers())
            return self._by_number.get(name, [])
        path = PurePath(name)
        depth = len(path.parts)
        if depth not in self._by_depth:
            self._by_depth[depth] = _grouped(self._endings(depth))
        return self._by_depth[depth].get(path.as_posix(), [])

    def _images(self) -> Iterator[tuple[Place, int, PurePath]]:
        for name, split in self._splits.items():
            for index, truth in enumerate(split.images):
                yield (name, index), truth.image_id, PurePath(split.image_dir, truth.file_name)

    def _numbers(self) -> Iterator[tuple[int, Place]]:
        for place, image_id, path in self._images():
            if place[0] in self._numbered:
                yield image_id, place
            elif path.stem.isascii() and path.stem.isdigit():
                yield int(path.stem), place

    def _endings(self, depth: int) -> Iterator[tuple[str, Place]]:
        for place, _, path in self._images():
            for whole in (path, path.with_suffix("")):
                yield PurePath(*whole.parts[-depth:]).as_posix(), place


def rows_by_image(
    names: tuple[int | str, ...], splits: Mapping[str, Split], numbered: Set[str], where: str
) -> dict[Place, list[int]]:
    """Image -> the detections on it, by their number in the file. Those on no image of the data are left out.

    Args:
        names: what each detection calls its image.
        numbered: as in `Places`.
        where: key of the recipe and file, for messages.

    Raises:
        InputError: one name may mean several images.
    """
    places = Places(splits, numbered)
    known: dict[int | str, list[Place]] = {}
    found: dict[Place, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        if name not in known:
            known[name] = places.of(name)
            if len(known[name]) > 1:
                raise InputError(_ambiguous(name, known[name], splits, where))
        for place in known[name]:
            found[place].append(row)
    return found


def _ambiguous(name: int | str, meant: list[Place], splits: Mapping[str, Split], where: str) -> str:
    (first, index), (second, _) = meant[:2]
    path = PurePath(splits[first].image_dir, splits[first].images[index].file_name)
    example = PurePath(*path.parts[-2:]).as_posix()
    key = "image_id" if isinstance(name, int) else "image"
    return (
        f"{where}: {key} {name} may be an image of {first} or of {second}; name images by file_name, with as much of "
        f"their path as tells them apart ({example})"
    )


def _grouped(pairs: Iterable[tuple[Key, Place]]) -> dict[Key, list[Place]]:
    groups: dict[Key, list[Place]] = defaultdict(list)
    for key, place in pairs:
        groups[key].append(place)
    return dict(groups)
