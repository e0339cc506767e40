"""The files of `docs/evidence`, which travel with the package: what was executed where, and whether it still holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import edgekd
from edgekd.evidence import document, sources
from edgekd.evidence.document import Document
from edgekd.evidence.scale import FULL

NO_HARDWARE = "emulated"


@dataclass(frozen=True)
class Executed:
    """A row of a file.

    Attributes:
        row: what, e.g. `target onnx-fp32`.
        where: words of the place.
        machine: for people.
        by: versions.
        changed: files whose code is another now; empty: what was shown still holds.
    """

    row: str
    where: tuple[str, ...]
    machine: str
    by: dict[str, str]
    date: str
    changed: tuple[str, ...]

    @property
    def words(self) -> set[str]:
        """What `Step.untested` may ask for: words of the place, and libraries with their major versions."""
        return {*self.where, *(f"{name} {version.partition('.')[0]}" for name, version in self.by.items())}

    @property
    def told(self) -> str:
        """One line."""
        versions = ", ".join(f"{name} {version}" for name, version in self.by.items())
        return f"on {self.machine} ({versions}; {self.date})"


def folder() -> Path | None:
    """Where the files lie: in the package, or in the source tree from which edgekd is used in place."""
    package = Path(edgekd.__file__).parent
    for place in (package / "builtin" / "evidence", package.parent / "docs" / "evidence"):
        if place.is_dir():
            return place
    return None


def documents(place: Path | None = None) -> dict[str, Document]:
    """By file name.

    Raises:
        InputError: one is of another version, or was edited.
    """
    place = place or folder()
    return {path.name: document.read(path) for path in sorted(place.glob("*.json"))} if place else {}


def executed(place: Path | None = None) -> Iterator[Executed]:
    """What full files show of hardware, the latest last."""
    for found in documents(place).values():
        if found.scale != FULL.name:
            continue
        for entry in found.entries:
            for shown in entry.shows:
                if NO_HARDWARE not in shown.where:
                    changed = tuple(sources.changed(shown.sources))
                    yield Executed(shown.row, shown.where, found.machine, shown.by, entry.date or "", changed)
