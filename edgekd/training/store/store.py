"""A store of knowledge: one record per image and view, in shards, behind an index that says whose it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekd.atomic import sha256_json
from edgekd.distill.packing import Block
from edgekd.errors import EnvironmentFault, InputError
from edgekd.plain import json_text
from edgekd.training.differing import differences, in_words
from edgekd.training.store.places import Bytes, Place
from edgekd.training.store.shards import (
    Form,
    Header,
    Span,
    Torn,
    encoded,
    header_of,
    require_sound,
)
from edgekd.training.views import View

SCHEMA = "edgekd.knowledge/1"
INDEX = "knowledge.json"
SHARD_BYTES = 64 << 20
_LEAST_SHARDS = 8  # of a view, so that a kill costs little and several ranks have something to do


@dataclass(frozen=True)
class Part:
    """What a store has of one method.

    Attributes:
        identity: everything that decides the method's knowledge but the images.
        block: how it is kept.
    """

    identity: Mapping[str, Any]
    block: Block


@dataclass(frozen=True)
class Shard:
    """Consecutive images of one view.

    Attributes:
        first, rows: the images.
    """

    view: View
    number: int
    first: int
    rows: int

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.view.name}/{self.number:06d}.safetensors"


@dataclass(frozen=True)
class Store:
    """A store.

    Attributes:
        identity: everything that decides the images, and how they are kept.
        parts: per method.
        images: in the split.
        rows: images in a shard; fewer in the last one.
    """

    place: Place
    identity: Mapping[str, Any]
    parts: tuple[Part, ...]
    images: int
    rows: int

    @classmethod
    def at(cls, place: Place) -> Store | None:
        """The one that is there.

        Raises:
            InputError: what is there is not one of this version, or its index is not what was written.
        """
        try:
            content = json.loads(place.read(INDEX))
            if content["schema"] != SCHEMA:
                raise InputError(
                    f"{place.name}: a store of another version of edgekd ({content['schema']}); name another folder"
                )
            if content.pop("digest") != sha256_json(content):
                raise ValueError("it was edited, or damaged")
            parts = tuple(Part(part["identity"], Block.from_json(part["fields"])) for part in content["parts"])
            return cls(place, content["identity"], parts, content["images"], content["rows"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{place.name}/{INDEX}: is no index of a store, or not as it was written; name another folder, or "
                "delete this one"
            ) from error

    @classmethod
    def made(cls, place: Place, identity: Mapping[str, Any], parts: Sequence[Part], images: int) -> Store:
        """A new one, of which nothing is written yet."""
        record = max(sum(part.block.size_bytes for part in parts), 1)
        rows = max(min(SHARD_BYTES // record, -(-images // _LEAST_SHARDS)), 1)
        return cls(place, identity, tuple(parts), images, rows)

    def write_index(self) -> None:
        """Say whose it is, before any shard."""
        self.place.write(INDEX, json_text({**self._content, "digest": self.digest}).encode())

    @property
    def record_bytes(self) -> int:
        """Per image and view."""
        return sum(part.block.size_bytes for part in self.parts)

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where each part lies in a record."""
        ends = np.cumsum([part.block.size_bytes for part in self.parts]).tolist()
        return tuple(Span(start, end) for start, end in zip([0, *ends], ends, strict=False))

    @property
    def digest(self) -> str:
        """Equal for equal stores."""
        return sha256_json(self._content)

    def shards(self, views: Iterable[View]) -> Iterator[Shard]:
        """All of some views."""
        for view in views:
            for number, first in enumerate(range(0, self.images, self.rows)):
                yield Shard(view, number, first, min(self.rows, self.images - first))

    def missing(self, views: Iterable[View]) -> list[Shard]:
        """Shards that are not there, or not as large as they should be."""
        sizes, digest = self.place.sizes(), self.digest
        return [shard for shard in self.shards(views) if sizes.get(shard.name) != self._form(shard, digest).size_bytes]

    def damaged(self, shard: Shard) -> str | None:
        """What is wrong with a shard, by all its checksums; None if nothing is."""
        try:
            raw = self.place.read(shard.name)
            header = header_of(lambda start, size: raw[start : start + size], self._form(shard))
            for row in range(shard.rows):
                start = header.first_byte + row * self.record_bytes
                for block, span in enumerate(self.spans):
                    require_sound(raw[start + span.start : start + span.end], header, row, block)
        except (Torn, FileNotFoundError) as error:
            return str(error) if isinstance(error, Torn) else "it is missing"
        return None

    def write(self, shard: Shard, records: Bytes) -> int:
        """Put a shard there; its bytes.

        Args:
            records: (rows, bytes of an image).
        """
        content = encoded(records, self.spans, self._form(shard).facts)
        self.place.write(shard.name, content)
        return len(content)

    def header(self, shard: Shard) -> Header:
        """Of a shard.

        Raises:
            Torn: it is damaged.
            FileNotFoundError: it is not there.
        """
        return header_of(lambda start, size: self.place.read(shard.name, start, size), self._form(shard))

    def require(self, identity: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], where: str) -> list[int]:
        """The parts that a recipe wants, by their places.

        Args:
            identity: of the images, as the recipe has them; `LATER` where it is not known yet.
            parts: identity of each method's knowledge, likewise.

        Raises:
            InputError: it is the store of something else; says what differs.
        """
        changed = differences(self.identity, identity)
        places: list[int] = []
        for wanted in parts:
            same = (place for place, part in enumerate(self.parts) if not differences(part.identity, wanted))
            found = next(same, None)
            if found is None:
                changed |= self._nearest(wanted)
            else:
                places.append(found)
        if changed:
            raise InputError(
                f"{where}: {self.place.name} holds other knowledge than this recipe needs; it differs in "
                f"{in_words(changed)}; name another store, or make the recipe that of this one"
            )
        return places

    def _nearest(self, wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """What separates a method from the most similar part."""
        method = wanted["method"]
        same = [part.identity for part in self.parts if part.identity["method"] == method]
        if not same:
            have = ", ".join(dict.fromkeys(str(part.identity["method"]) for part in self.parts))
            return {f"{method}.method": (have, method)}
        found = min((differences(other, wanted) for other in same), key=len)
        return {f"{method}.{key}": values for key, values in found.items()}

    def _form(self, shard: Shard, digest: str | None = None) -> Form:
        whose = (
            f"{digest or self.digest} {shard.view.name} {shard.first}"  # one key: safetensors puts several in any order
        )
        facts = {"edgekd.knowledge": whose}
        return Form(shard.rows, self.record_bytes, len(self.parts), facts)

    @property
    def _content(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "identity": dict(self.identity),
            "images": self.images,
            "rows": self.rows,
            "parts": [{"identity": dict(part.identity), "fields": part.block.as_json()} for part in self.parts],
        }


class Reader:
    """Records of a store, one by one, checked as they are read. Worker processes get copies."""

    def __init__(self, store: Store, parts: Sequence[int]) -> None:
        """`parts`: places of the methods that are wanted; nothing else is read."""
        self.store = store
        self._record_bytes = store.record_bytes
        self._runs = _runs(store.spans, sorted(set(parts)))
        self._headers: dict[str, Header] = {}

    @property
    def record_bytes(self) -> int:
        """Of what is read per image."""
        return sum(span.end - span.start for run in self._runs for _, span in run)

    def blocks(self, parts: Sequence[int]) -> list[tuple[Span, Block]]:
        """Where each wanted method's part lies in what `read` gives."""
        placed, start = {}, 0
        for run in self._runs:
            for block, span in run:
                placed[block] = Span(start, start + span.end - span.start)
                start = placed[block].end
        return [(placed[part], self.store.parts[part].block) for part in parts]

    def read(self, view: View, index: int, target: Bytes) -> None:
        """Fill (bytes of `record_bytes`,) with the wanted parts of a record.

        Raises:
            EnvironmentFault: the shard is damaged or gone.
        """
        store = self.store
        number, row = divmod(index, store.rows)
        first = number * store.rows
        shard = Shard(view, number, first, min(store.rows, store.images - first))
        name = shard.name
        try:
            header = self._headers.get(name) or self._headers.setdefault(name, store.header(shard))
            place = 0
            for run in self._runs:
                start, end = run[0][1].start, run[-1][1].end
                raw = target[place : place + end - start]
                first_byte = header.first_byte + row * self._record_bytes + start
                if store.place.read_into(name, first_byte, raw) < len(raw):
                    raise Torn("its end is missing")
                for block, span in run:
                    require_sound(raw[span.start - start : span.end - start], header, row, block)
                place += len(raw)
        except (Torn, FileNotFoundError) as error:
            what = str(error) if isinstance(error, Torn) else "it is missing"
            raise EnvironmentFault(
                f"{store.place.name}: shard {name} is damaged ({what}), found at image {index}; "
                "'edgekd knowledge RECIPE --out RUN' makes this shard anew, and no other"
            ) from error


def _runs(spans: Sequence[Span], parts: Sequence[int]) -> list[list[tuple[int, Span]]]:
    """Wanted parts, those that lie side by side together."""
    runs: list[list[tuple[int, Span]]] = []
    for part in parts:
        if runs and runs[-1][-1][0] == part - 1:
            runs[-1].append((part, spans[part]))
        else:
            runs.append([(part, spans[part])])
    return runs
