"""Content hashes of files and folders, and folders as one file: the same content always gives the same bytes."""

from __future__ import annotations

import functools
import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from edgekd.atomic import sha256_file
from edgekd.devices.faults import DeviceFault


def digest(source: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, over the sorted names and hashes of its files.

    A file whose path, size and time of change are those of an earlier call is not read again.

    Raises:
        DeviceFault: there is nothing, or something that is neither file nor folder.
    """
    source = present(source)
    if source.is_file():
        return _file_digest(source)
    whole = hashlib.sha256()
    for path in files_below(source):
        name = path.relative_to(source).as_posix()
        whole.update(f"{len(name.encode())} {name} {_file_digest(path)}\n".encode())
    return whole.hexdigest()


def present(source: Path) -> Path:
    """The absolute path of a file or folder.

    Raises:
        DeviceFault: it is not there.
    """
    if not source.is_file() and not source.is_dir():
        raise DeviceFault("incomplete", f"{source}: is not there any more; do the stage that makes it again")
    return source.resolve()


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in the order of their names; links are followed."""
    found = [Path(parent) / name for parent, _, names in os.walk(folder, followlinks=True) for name in names]
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix().encode())


def pack_folder(folder: Path, stream: IO[bytes]) -> None:
    """Write the files of a folder as one tar: no times, no owners, links resolved."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, dereference=True) as archive:
        for path in files_below(folder):
            entry = archive.gettarinfo(path, path.relative_to(folder).as_posix())
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            with path.open("rb") as content:
                archive.addfile(entry, content)


def _file_digest(path: Path) -> str:
    about = path.stat()
    return _known_digest(path, about.st_size, about.st_mtime_ns, about.st_ino)


@functools.lru_cache(maxsize=4096)
def _known_digest(path: Path, _size: int, _mtime_ns: int, _inode: int) -> str:
    return sha256_file(path)
