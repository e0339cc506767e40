"""One shard: a safetensors file of records and their checksums, read by ranges of bytes.

`records` (rows, bytes of an image) uint8 holds everything that methods know of an image in one piece, so that a sample
is one read. `checksums` (rows, blocks) uint32 has the CRC-32 of each method's part: a reader that needs one method's
part reads and checks that alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class Span(NamedTuple):
    """A method's part of a record."""

    start: int
    end: int


@dataclass(frozen=True)
class Header:
    """Where things lie in a shard's file.

    Attributes:
        first_byte: of the records.
        rows: records in it.
        checksums: (rows, blocks) uint32.
    """

    first_byte: int
    rows: int
    checksums: NDArray[np.uint32]


class Torn(Exception):
    """A shard is not what was written."""


def encoded(records: Bytes, spans: Sequence[Span], facts: dict[str, str]) -> bytes:
    """A shard's file.

    Args:
        records: (rows, bytes of an image).
        facts: whose it is, for its header.
    """
    from safetensors.numpy import save

    checksums = np.array([[_checksum(row[span.start : span.end]) for span in spans] for row in records], np.uint32)
    return save({"checksums": checksums.reshape(len(records), len(spans)), "records": records}, facts)


def is_sized(size_bytes: int, rows: int, record_bytes: int, blocks: int) -> bool:
    """Whether a file has the size of a whole shard, but for its header."""
    return 0 < size_bytes - rows * (record_bytes + 4 * blocks) < 4096


def header_of(read: Any, rows: int, record_bytes: int, blocks: int, facts: dict[str, str]) -> Header:
    """The header of a shard that is to have these facts.

    Args:
        read: (start, length) -> bytes of the file.

    Raises:
        Torn: it is another one, or damaged.
    """
    length = int.from_bytes(read(0, 8), "little")
    if not 0 < length < 4096:
        raise Torn("its header")
    try:
        header = json.loads(read(8, length))
        wanted = {"records": ("U8", [rows, record_bytes]), "checksums": ("U32", [rows, blocks])}
        sound = header["__metadata__"] == facts and all(
            (header[name]["dtype"], header[name]["shape"]) == what for name, what in wanted.items()
        )
        starts = {name: 8 + length + int(header[name]["data_offsets"][0]) for name in wanted}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Torn("its header") from error
    if not sound or sorted(starts.values())[0] != 8 + length:
        raise Torn("its header")
    raw = read(starts["checksums"], 4 * rows * blocks)
    if len(raw) != 4 * rows * blocks:
        raise Torn("its end is missing")
    return Header(starts["records"], rows, np.frombuffer(raw, "<u4").reshape(rows, blocks))


def require_sound(raw: bytes, header: Header, row: int, span: Span, block: int) -> None:
    """Check a part of a record.

    Raises:
        Torn: it is not what was written.
    """
    if len(raw) != span.end - span.start:
        raise Torn("its end is missing")
    if _checksum(raw) != int(header.checksums[row, block]):
        raise Torn(f"record {row} by its checksum")


def _checksum(raw: Any) -> int:
    return zlib.crc32(raw)
