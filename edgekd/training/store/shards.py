"""One shard: a safetensors file of records and their checksums, read by ranges of bytes.

`records` (rows, bytes of an image) uint8 holds everything that methods know of an image in one piece, so that a sample
is one read. `checksums` (rows, blocks) uint32 has the CRC-32 of each method's part: a reader that needs one method's
part reads and checks that alone.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekd.training.store.places import Bytes


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


def encoded(records: Bytes, spans: Sequence[Span], facts: Mapping[str, str]) -> bytes:
    """A shard's file.

    Args:
        records: (rows, bytes of an image).
        facts: whose it is, for its header.
    """
    from safetensors.numpy import save

    checksums = np.array([[_checksum(row[span.start : span.end]) for span in spans] for row in records], np.uint32)
    return save({"checksums": checksums.reshape(len(records), len(spans)), "records": records}, dict(facts))


@dataclass(frozen=True)
class Form:
    """What a whole shard looks like.

    Attributes:
        rows: records in it.
        record_bytes: of an image.
        blocks: parts of a record.
        facts: whose it is.
    """

    rows: int
    record_bytes: int
    blocks: int
    facts: Mapping[str, str]

    @property
    def header(self) -> dict[str, Any]:
        """Of the file; safetensors puts the wider type first."""
        checks, end = 4 * self.rows * self.blocks, (4 * self.blocks + self.record_bytes) * self.rows
        return {
            "__metadata__": dict(self.facts),
            "checksums": {"dtype": "U32", "shape": [self.rows, self.blocks], "data_offsets": [0, checks]},
            "records": {"dtype": "U8", "shape": [self.rows, self.record_bytes], "data_offsets": [checks, end]},
        }

    @property
    def header_bytes(self) -> int:
        """Its length, filled up to a multiple of 8."""
        return -(-len(json.dumps(self.header, separators=(",", ":"))) // 8) * 8

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return 8 + self.header_bytes + (4 * self.blocks + self.record_bytes) * self.rows


def header_of(read: Callable[[int, int], bytes], form: Form) -> Header:
    """The header of a shard that is to have this form.

    Args:
        read: (start, length) -> bytes of the file.

    Raises:
        Torn: it is another one, or damaged.
    """
    first = 8 + form.header_bytes
    raw = read(0, first + 4 * form.rows * form.blocks)
    try:
        sound = int.from_bytes(raw[:8], "little") == form.header_bytes and json.loads(raw[8:first]) == form.header
    except ValueError as error:
        raise Torn("its header") from error
    if not sound:
        raise Torn("its header")
    if len(raw) < first + 4 * form.rows * form.blocks:
        raise Torn("its end is missing")
    checksums = np.frombuffer(raw, "<u4", offset=first).reshape(form.rows, form.blocks)
    return Header(first + 4 * form.rows * form.blocks, form.rows, checksums)


def require_sound(raw: bytes | Bytes, header: Header, row: int, block: int) -> None:
    """Check a part of a record.

    Raises:
        Torn: it is not what was written.
    """
    if _checksum(raw) != int(header.checksums[row, block]):
        raise Torn(f"record {row} by its checksum")


def _checksum(raw: Any) -> int:
    return zlib.crc32(raw)
