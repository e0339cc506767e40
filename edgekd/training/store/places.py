"""Where a store lies: a folder, or anything that fsspec reaches (s3://bucket/folder, gs://, memory:// ...)."""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgekd.atomic import disk_faults, write_bytes
from edgekd.errors import EnvironmentFault

Bytes: TypeAlias = NDArray[np.uint8]
REMEDY = "free space, or name another teacher.store"  # of a disk that is full or read-only
_MOST_OPEN = 64  # files that one process holds open


class Place(Protocol):
    """A folder of whole files. A file is written as a whole or not at all."""

    name: str

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of every file below."""
        ...

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file; fewer where it ends before.

        Raises:
            FileNotFoundError: there is none.
            EnvironmentFault: it cannot be read.
        """
        ...

    def read_into(self, name: str, start: int, target: Bytes) -> int:
        """Fill (bytes,) uint8 from a file; the number of bytes, fewer where it ends before.

        Raises:
            FileNotFoundError: there is none.
            EnvironmentFault: it cannot be read.
        """
        ...

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, in the place of one of that name.

        Raises:
            EnvironmentFault: it cannot be written.
        """
        ...

    def free_bytes(self) -> int | None:
        """Room that is left; None where that is not known."""
        ...


def place_of(text: str, base: Path) -> Place:
    """The place that a recipe names.

    Args:
        text: a path, or a URL.
        base: folder of relative paths.
    """
    return Remote(text) if "://" in text else Folder(base / Path(text).expanduser())


class Folder:
    """On a disk of this machine, or one that it has mounted."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        self._open: OrderedDict[str, int] = OrderedDict()

    def sizes(self) -> dict[str, int]:
        """See `Place`."""
        found = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in found}

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Place`. By `pread` and not by a memory map: a file that is cut meanwhile is a short read, no signal."""
        parts: list[bytes] = []
        with self._reading(name) as descriptor:
            wanted = os.fstat(descriptor).st_size - start if length is None else length
            while wanted > 0 and (part := os.pread(descriptor, wanted, start)):
                parts.append(part)
                start, wanted = start + len(part), wanted - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_into(self, name: str, start: int, target: Bytes) -> int:
        """See `Place`."""
        buffer: Any = target  # numpy's arrays are buffers, which their types do not say before Python 3.12
        done = 0
        with self._reading(name) as descriptor:
            while done < len(target) and (count := os.preadv(descriptor, [buffer[done:]], start + done)):
                done += count
        return done

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        stale = self._open.pop(name, None)
        if stale is not None:
            os.close(stale)
        write_bytes(self.path / name, content, remedy=REMEDY)

    def free_bytes(self) -> int | None:
        """See `Place`."""
        there = next(parent for parent in (self.path, *self.path.absolute().parents) if parent.exists())
        with disk_faults(self.path, REMEDY):
            return shutil.disk_usage(there).free

    @contextmanager
    def _reading(self, name: str) -> Iterator[int]:
        """Around the reading of a file: its descriptor. In a loader's worker an `OSError` would lose its number."""
        try:
            yield self._descriptor(name)
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            raise EnvironmentFault(
                f"{self.path / name}: cannot be read ({error.strerror or error}); see that the disk or mount is there "
                "and may be read, then give the same command again"
            ) from error

    def _descriptor(self, name: str) -> int:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        self._open[name] = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return self._open[name]

    def __del__(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process opens files of its own."""
        return {"path": self.path, "name": self.name, "_open": OrderedDict()}


class Remote:
    """An object store. A file becomes visible once it is there as a whole, as such stores have it."""

    def __init__(self, url: str) -> None:
        self.name = url.rstrip("/")
        self._process = -1
        self._connected: tuple[Any, str] | None = None

    def sizes(self) -> dict[str, int]:
        """See `Place`."""
        system, root = self._system()
        try:
            with self._asking("read"):
                found = system.find(root, detail=True)
        except FileNotFoundError:
            return {}
        return {path[len(root) :].lstrip("/"): int(facts["size"]) for path, facts in found.items()}

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Place`."""
        system, root = self._system()
        with self._asking("read"):
            return bytes(system.cat_file(f"{root}/{name}", start=start, end=None if length is None else start + length))

    def read_into(self, name: str, start: int, target: Bytes) -> int:
        """See `Place`."""
        found = np.frombuffer(self.read(name, start, len(target)), np.uint8)
        target[: len(found)] = found
        return len(found)

    def write(self, name: str, content: bytes) -> None:
        """See `Place`."""
        system, root = self._system()
        try:
            with self._asking("write"):
                system.pipe_file(f"{root}/{name}", content)
        except FileNotFoundError as error:  # the bucket
            raise self._fault("write", error) from error

    def free_bytes(self) -> int | None:
        """Not known."""
        return None

    def _system(self) -> tuple[Any, str]:
        """Connected by each process for itself: none of these clients outlives a fork."""
        if self._connected is None or self._process != os.getpid():
            try:
                import fsspec

                self._connected = fsspec.core.url_to_fs(self.name, skip_instance_cache=self._process != -1)
            except (ImportError, ValueError) as error:
                raise EnvironmentFault(
                    f"{self.name}: cannot be reached ({error}); 'pip install edgekd[remote]' has what s3:// needs, "
                    "other protocols need the package that fsspec names"
                ) from error
            except Exception as error:  # see `_asking`
                raise self._fault("reach", error) from error
            self._process = os.getpid()
        return self._connected

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Around a call of the client alone: whatever is wrong with the other side, in errors that each client has of
        its own (botocore's are no `OSError`)."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:
            raise self._fault(doing, error) from error

    def _fault(self, doing: str, error: Exception) -> EnvironmentFault:
        return EnvironmentFault(f"{self.name}: cannot {doing} ({error}); see that it is there and may be used")

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process connects anew."""
        return {"name": self.name, "_process": os.getpid(), "_connected": None}
