"""The file of one machine: its form, its hash, and what may be wrong with one that somebody hands in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.errors import InputError
from edgekd.evidence.private import names_here, neutral

SCHEMA: Literal["edgekd.evidence/1"] = "edgekd.evidence/1"
Status = Literal["done", "failed", "cut", "left", "lacking"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shown(_Strict):
    """Something that was executed.

    Attributes:
        row: what, e.g. `target onnx-fp32`.
        where: words of the place.
        by: versions of what executed it, edgekd's among them.
        sources: SHA-256 of the code that this was, by file.
    """

    row: str
    where: tuple[str, ...]
    by: dict[str, str]
    sources: dict[str, str]


class Entry(_Strict):
    """One experiment.

    Attributes:
        status: `done`; `failed`: it could not be done, or what it found is against the code that it tried, and it says
            why; `cut`: its time was up, and what it had measured is here; `left`: no time was left for it; `lacking`:
            the machine has not what it needs.
        seconds: that it took; None where it was not begun.
        date: when, to the day.
        figures: raw, by experiment.
        sources: SHA-256 of the code that was tried, by file; empty where it was not begun, and of files that were
            written before this was kept.
    """

    experiment: str
    title: str
    status: Status
    reason: str | None = None
    seconds: float | None = None
    limit_s: float
    date: str | None = None
    figures: dict[str, Any] = Field(default_factory=dict)
    shows: tuple[Shown, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)


class Document(_Strict):
    """One machine.

    Attributes:
        machine: for people: board or processor, and GPUs.
        device: that artifacts ran on, by its name in edgekd; `local` is the machine itself.
        environment: what was found there.
    """

    schema_version: Literal["edgekd.evidence/1"] = SCHEMA
    edgekd: str
    scale: str
    machine: str
    device: str
    environment: dict[str, Any]
    entries: tuple[Entry, ...] = ()


def write(path: Path, document: Document, private: Sequence[str] = ()) -> Document:
    """Write it with its hash, without what names this machine, its user or its files; gives what was written.

    Args:
        private: further words that do not leave, such as the device's address.
    """
    names = (*names_here(), *private)
    content = neutral(document.model_dump(mode="json"), names)
    write_json(path, {**content, "sha256": sha256_json(content)})
    return Document.model_validate(content)


def read(path: Path) -> Document:
    """A file as it was written.

    Raises:
        InputError: it cannot be read, is of another version, or was edited; one line.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name a file that 'edgekd evidence' wrote"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); name a file that 'edgekd evidence' wrote") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA:
        raise InputError(
            f"{path}: schema_version: got {str(version)!r}, this edgekd reads {SCHEMA}; choose another --out, and "
            "measure again with this version"
        )
    said = content.pop("sha256", None)
    if said != sha256_json(content):
        raise InputError(
            f"{path}: sha256: is not that of what the file holds: it was edited or cut since it was measured; take the "
            "file as 'edgekd evidence' wrote it"
        )
    try:
        return Document.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {place}: {first['msg']}; take the file as 'edgekd evidence' wrote it") from error
