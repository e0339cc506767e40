"""Files that are either whole or absent: write to a temporary neighbour, flush it to the disk, rename it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekd.errors import EnvironmentFault
from edgekd.files import open_regular, read_text
from edgekd.plain import json_text

_LEFTOVER = re.compile(r"\..+\.\d+\.tmp")
_DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM}


@contextmanager
def disk_faults(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk under `path` into a typed error (exit code 4).

    Raises:
        EnvironmentFault: the disk is full, read-only, or access is denied.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise EnvironmentFault(f"{path}: cannot write ({reason}); free space or choose another --out") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error."""
    path = Path(path)
    with disk_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed in the middle of a write left below `folder`, which nobody else uses."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "train_view"]  # as many links as there are images
        for name in files:
            if _LEFTOVER.fullmatch(name):
                (Path(parent) / name).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically, as indented JSON. A NaN raises: no JSON reader has to guess."""
    write_text(path, json_text(content) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(read_text(path))


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(content: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode("utf-8")).hexdigest()
