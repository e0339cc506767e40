"""Reads files of others: regular ones only, and never more than is sensible.

A named pipe would make a reader wait for ever, a device give bytes without end. Whatever is wrong is an `OSError` whose
`strerror` ends a sentence about the file, so that readers report it like a file that is missing.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST_TEXT_BYTES = 1 << 30  # annotations of a large data set are several hundred megabytes
LONGEST_NAME_BYTES, LONGEST_PATH_BYTES = 255, 4095
_KINDS = {
    stat.S_IFIFO: "it is a named pipe", stat.S_IFCHR: "it is a device", stat.S_IFBLK: "it is a device",
    stat.S_IFSOCK: "it is a socket", stat.S_IFDIR: "it is a folder",
}  # fmt: skip


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for it.

    Raises:
        OSError: missing, not allowed, a path that cannot be one, or something else than a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise OSError(errno.EINVAL, "it is no path: it holds a NUL", str(path)) from error
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{_KINDS.get(kind, 'it is none')}, no regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, most_bytes: int = MOST_TEXT_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: as `open_regular`; larger than `most_bytes`.
    """
    with open_regular(path) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {most_bytes:,} bytes", str(path))
    return content


def read_text(path: Path, most_bytes: int = MOST_TEXT_BYTES, encoding: str = "utf-8") -> str:
    """The text of a regular file.

    Raises:
        OSError: as `read_bytes`.
        UnicodeDecodeError: it is no text of that encoding.
    """
    return read_bytes(path, most_bytes).decode(encoding)


def path_fault(text: str) -> str | None:
    """Why a text of others can be no path, whatever lies on the disk; None if it can."""
    if "\0" in text:
        return "holds a NUL, which no path does"
    try:
        parts = os.fsencode(text).split(b"/")
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which no path does"
    if max(map(len, parts)) > LONGEST_NAME_BYTES:
        return f"has a name longer than {LONGEST_NAME_BYTES} bytes, which no file has"
    if sum(map(len, parts)) + len(parts) - 1 > LONGEST_PATH_BYTES:
        return f"is longer than {LONGEST_PATH_BYTES} bytes, which no path is"
    return None
