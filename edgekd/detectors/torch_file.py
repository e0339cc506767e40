"""Reads what `torch.save` wrote, of any library, without running or importing anything that the file names.

A pickle is a program. This one is gone through by a reader of our own: tensors, containers, numbers and texts become
what they are; every other class or call becomes a `Foreign`, which is inert. So checkpoints load whose classes are not
installed here (mmengine's history of losses), and hostile ones do nothing.

Two forms exist: an archive (since torch 1.6), and pickles followed by raw storages, in which mmdetection publishes.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgekd.detectors.inert import Foreign
from edgekd.files import open_regular

_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older form
_DTYPES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip


class NotReadable(ValueError):
    """Why a file cannot be read: the end of a sentence that begins with its name."""


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet.

    Attributes:
        shape: as saved.
        dtype: as saved.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> torch.dtype:
        """As saved."""
        return self.storage.dtype


@dataclass(frozen=True)
class TorchFile:
    """What a file holds.

    Attributes:
        content: as it was saved, with `Stored` for tensors and `Foreign` for objects of other classes.
        read: the tensor of a `Stored`.
    """

    content: Any
    read: Callable[[Stored], Tensor]

    def tensors(self, stored: Mapping[Any, Any]) -> dict[str, Tensor]:
        """The tensors among a mapping's values, by key."""
        return {key: self.read(value) for key, value in stored.items() if isinstance(value, Stored)}


def read(path: Path) -> TorchFile:
    """Open a file.

    Raises:
        NotReadable: damaged, truncated, or no file of `torch.save`.
        OSError: it cannot be opened.
    """
    with open_regular(path) as stream:
        content = stream.read()
    try:
        return _of_archive(content) if content.startswith(b"PK") else _of_pickles(content)
    except NotReadable:
        raise
    except Exception as error:  # a broken file breaks its reader in any way it likes
        raise NotReadable(f"is truncated, damaged or no file of torch.save ({type(error).__name__})") from error


def _of_archive(content: bytes) -> TorchFile:
    archive = zipfile.ZipFile(io.BytesIO(content))
    members = {one.filename: one for one in archive.infolist()}
    if sum(one.file_size for one in members.values()) > len(content):
        raise NotReadable("unpacks into more than it is, which no file of torch.save does")
    pickles = [name for name in members if name.split("/")[-1] == "data.pkl"]
    if len(pickles) != 1:
        raise NotReadable("is no file of torch.save (no data.pkl)")
    folder = pickles[0].removesuffix("data.pkl")
    if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
        raise NotReadable("was saved on a machine of another byte order; save it again on this one")

    def bytes_of(storage: _Storage) -> bytes:
        return archive.read(f"{folder}data/{storage.key}")

    return TorchFile(_Reader(io.BytesIO(archive.read(pickles[0]))).load(), lambda stored: _tensor(stored, bytes_of))


def _of_pickles(content: bytes) -> TorchFile:
    """Magic number, version, facts of the machine, the object, keys of its storages; then each storage's length and
    bytes."""
    stream = io.BytesIO(content)
    if _Reader(stream).load() != _MAGIC:
        raise NotReadable("is no file of torch.save")
    _Reader(stream).load()
    machine = _Reader(stream).load()
    if not (isinstance(machine, dict) and machine.get("little_endian", True) and sys.byteorder == "little"):
        raise NotReadable("was saved on a machine of another byte order; save it again on this one")
    reader = _Reader(stream)
    found = reader.load()
    spans: dict[str, tuple[int, int]] = {}
    for key in _Reader(stream).load():
        (numel,) = struct.unpack("<q", stream.read(8))
        size = numel * reader.storages[key].dtype.itemsize
        if numel < 0 or stream.tell() + size > len(content):
            raise NotReadable("is truncated: it ends within its tensors")
        spans[key] = (stream.tell(), size)
        stream.seek(size, io.SEEK_CUR)

    def bytes_of(storage: _Storage) -> bytes:
        start, size = spans[storage.key]
        return content[start : start + size]

    return TorchFile(found, lambda stored: _tensor(stored, bytes_of))


def _tensor(stored: Stored, bytes_of: Callable[[_Storage], bytes]) -> Tensor:
    """A copy, after a look at whether shape and strides lie within the storage."""
    numel = math.prod(stored.shape)
    if not numel:
        return torch.zeros(stored.shape, dtype=stored.dtype)
    last = stored.offset + sum(step * (size - 1) for step, size in zip(stored.stride, stored.shape, strict=True))
    try:
        content = bytearray(bytes_of(stored.storage))
    except Exception as error:  # a member that is not there, or whose sum is wrong
        raise NotReadable(f"is damaged: the values of a tensor cannot be read ({type(error).__name__})") from error
    values = len(content) // stored.dtype.itemsize
    if numel > values or not 0 <= stored.offset <= last < values:
        raise NotReadable("is truncated or damaged: a tensor is larger than what is stored of it")
    return torch.frombuffer(content, dtype=stored.dtype).as_strided(stored.shape, stored.stride, stored.offset).clone()


class _Named(str):
    """A class or function that the reader knows, by module and name. Never the thing itself."""


def _rebuilt(storage: Any, offset: int, shape: Sequence[int], stride: Sequence[int], *_: Any) -> Any:
    whole = all(isinstance(number, int) and number >= 0 for number in (offset, *shape, *stride))
    if not isinstance(storage, _Storage) or not whole or len(shape) != len(stride):
        raise NotReadable("is damaged: a tensor of no shape")
    return Stored(storage, offset, tuple(shape), tuple(stride))


# What is done in place of a call. All others give a `Foreign`.
_CALLS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "collections.OrderedDict": lambda *_: {},
}


class _Reader(pickle._Unpickler):
    """Goes through a pickle.

    Attributes:
        storages: that were named, by key.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    append: Callable[[Any], None]

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _Named(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _, numel, *_view = pid
        dtype = _DTYPES.get(str(storage_type).removeprefix("torch."))
        if kind != "storage" or dtype is None or not isinstance(key, str) or not isinstance(numel, int):
            return Foreign("storage")
        return self.storages.setdefault(key, _Storage(key, dtype, numel))

    def _call(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        known = _CALLS.get(called) if isinstance(called, _Named) else None
        self.append(known(*arguments) if known else Foreign(str(called) if isinstance(called, _Named) else ""))

    def _make(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        del arguments
        self.append(Foreign(str(kind) if isinstance(kind, _Named) else ""))

    def _make_with_keys(self) -> None:
        self.stack.pop()
        self._make()

    def _set_state(self) -> None:
        self.stack.pop()

    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.NEWOBJ[0]] = _make
    dispatch[pickle.NEWOBJ_EX[0]] = _make_with_keys
    dispatch[pickle.BUILD[0]] = _set_state
