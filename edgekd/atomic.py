"""Files that are either whole or absent: write to a temporary neighbour, flush it to the disk, rename it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekd.errors import EnvironmentFault, InputError
from edgekd.files import open_regular, path_fault, read_text
from edgekd.plain import json_text

REMEDY = "free space or choose another --out"
_LEFTOVER = re.compile(r"\..+\.\d+\.(tmp|old)")
_NO_FOLDER_SYNC = {errno.EBADF, errno.EINVAL, errno.ENOTSUP}  # file systems that do not sync folders
_DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM}


@contextmanager
def disk_faults(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turn a full or read-only disk under `path` into a typed error (exit code 4).

    Args:
        remedy: where another --out does not help.

    Raises:
        EnvironmentFault: the disk is full, read-only, or access is denied.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise EnvironmentFault(f"{path}: cannot write ({reason}); {remedy}") from error


def make_folder(path: Path, option: str) -> None:
    """Make the folder that an option names, with those above it, where it is not there.

    Raises:
        InputError: a file is in the way, or no folder can be there.
        EnvironmentFault: the disk is full, read-only, or access is denied.
    """
    with disk_faults(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError):
            raise InputError(f"{option} {path}: part of this path is a file; choose another {option}") from None
        except FileNotFoundError:  # of the kernel's own file systems: /proc
            raise InputError(f"{option} {path}: no folder can be made there; choose another {option}") from None


@contextmanager
def atomic_path(path: Path, remedy: str = REMEDY) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    Args:
        remedy: see `disk_faults`.

    Raises:
        InputError: what is there is no file, and a rename would put one in its place, even in that of a device; or no
            file can be there.
    """
    path = Path(path)
    if fault := place_fault(path):
        raise InputError(f"{path}: {fault}")
    with disk_faults(path, remedy):
        made = [folder for folder in path.parents if not folder.exists()]
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch()
        except FileNotFoundError:  # of the kernel's own file systems: /proc
            raise InputError(f"{path}: no file can be made there; choose another place") from None
        try:
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
            for folder in (path.parent, *(folder.parent for folder in made)):
                sync_folder(folder)
        finally:
            temporary.unlink(missing_ok=True)


def place_fault(path: Path) -> str | None:
    """Why no file may be put at a path; None if one may."""
    if fault := path_fault(str(path)):
        return f"{fault}; name another file"
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be a file ({error.strerror}); name another"
    if stat.S_ISDIR(mode):
        return "is a folder; name a file in it"
    return None if stat.S_ISREG(mode) else "is a device, a pipe or a socket, which would be replaced; name a file"


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: a rename, or a new file, outlives a power cut only then."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(number)


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed in the middle of a write left below `folder`, which nobody else uses:
    files and folders half written, and folders on their way out."""
    for parent, folders, files in os.walk(folder):
        for name in filter(_LEFTOVER.fullmatch, folders):
            shutil.rmtree(Path(parent) / name, ignore_errors=True)
        # `train_view` has as many links as there are images.
        folders[:] = [name for name in folders if name != "train_view" and not _LEFTOVER.fullmatch(name)]
        for name in filter(_LEFTOVER.fullmatch, files):
            (Path(parent) / name).unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, remedy: str = REMEDY) -> None:
    """Write `content` to `path` atomically; `remedy` as in `disk_faults`."""
    with atomic_path(path, remedy) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` atomically, as UTF-8."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` atomically, as indented JSON. A NaN raises: no JSON reader has to guess."""
    write_text(path, json_text(content) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: it is no JSON that can be read.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


@contextmanager
def as_written(path: Path) -> Iterator[None]:
    """Around the reading of what edgekd wrote at `path`, a file or a run: others may have changed it since.

    Raises:
        InputError: it does not hold what edgekd writes there.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        what = f"does not hold what edgekd wrote there ({type(error).__name__}: {error})"
        raise InputError(f"{path}: {what}; run the stage that writes it again") from error


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
