"""Writes the shards that a store lacks: every sample once through augmentation and teachers, by all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgekd import ranks
from edgekd.detectors.outputs import Batch
from edgekd.distill.contract import Distiller
from edgekd.distill.packing import Block, Storage, size_fault
from edgekd.errors import EnvironmentFault, InputError
from edgekd.progress import progress, say
from edgekd.training.knowledge import Knowledge, KnowledgeSource, Online
from edgekd.training.store.places import Bytes
from edgekd.training.store.store import Shard, Store

if TYPE_CHECKING:
    from edgekd.training.engines.samples import TrainSamples


def blocks_of(
    methods: Sequence[Distiller],
    source: KnowledgeSource,
    images: Tensor,
    classes: int,
    storage: Storage,
    points: int,
) -> list[Block]:
    """How each method's knowledge is kept: found by asking the teachers about blank images.

    Args:
        images: (2, C, H, W), of the size and on the device of the training.
        classes: of the data; there are objects of all, whichever of them a teacher knows.

    Raises:
        InputError: one line per method whose knowledge has no fixed size.
    """
    blank = [_blank(images[:1], 0, classes), _blank(images, 3 * classes, classes)]
    found = [[one or {} for one in source.of(methods, batch, [True] * len(methods))] for batch in blank]
    both = list(zip(methods, *found, strict=True))
    if faults := [fault for method, *sides in both if (fault := _size_fault(method.name, *sides))]:
        raise InputError(*faults)
    return [Block.of(other, method.stored, storage, points) for method, _, other in both]


def _size_fault(name: str, one: Knowledge, other: Knowledge) -> str | None:
    """What is wrong with a method's knowledge of two batches; None if nothing is."""
    for key in sorted(one.keys() | other.keys()):
        shapes = [tuple(found[key].shape[1:]) if key in found else None for found in (one, other)]
        if shapes[0] != shapes[1]:
            return size_fault(name, key, *shapes)
    return None


def require_room(store: Store, missing: Sequence[Shard], views: int) -> None:
    """Say how large a store becomes, and refuse a disk that is too small for what is missing.

    Raises:
        EnvironmentFault: it is too small.
    """
    each, free = store.record_bytes + 4 * len(store.parts), store.place.free_bytes()
    total, wanted = each * store.images * views, each * sum(shard.rows for shard in missing)
    room = "" if free is None else f"; {in_bytes(free)} free"
    say(
        f"knowledge: {in_bytes(total)} for {store.images:,} images x {views} views ({in_bytes(each)} an image) in "
        f"{store.place.name}{room}"
    )
    if free is not None and wanted > free:
        raise EnvironmentFault(
            f"{store.place.name}: {in_bytes(wanted)} of knowledge are still to be written, {in_bytes(free)} are free; "
            "free space, name another teacher.store, or lower teacher.views or teacher.points"
        )


def fill(
    store: Store, missing: Sequence[Shard], samples: TrainSamples, methods: Sequence[Distiller], source: Online
) -> None:
    """Write shards; each rank every n-th. What is finished stays, however this ends.

    Raises:
        EnvironmentFault: the disk is full or read-only.
        InputError: an image cannot be read, knowledge of a method has no fixed size.
    """
    own = [shard for place, shard in enumerate(missing) if place % ranks.size() == ranks.rank()]
    done = in_all = sum(shard.rows for shard in store.shards({shard.view for shard in missing}))
    done -= sum(shard.rows for shard in missing)
    written = 0
    with progress("asking the teacher", in_all, done=done) as advance:
        for closed in (False, True):
            part = [shard for shard in own if shard.view.closed == closed]
            for shard, records in _records(part, samples, methods, source, store):
                written += store.write(shard, records)
                advance(min(shard.rows * ranks.size(), in_all), note=in_bytes(written))
    ranks.wait()


def _records(
    shards: Sequence[Shard], samples: TrainSamples, methods: Sequence[Distiller], source: Online, store: Store
) -> Iterator[tuple[Shard, Bytes]]:
    """Each shard's records, once all its batches are through."""
    if not shards:
        return
    groups = [(shard, indices) for shard in shards for indices in _batches(shard, samples.batch)]
    batches = samples.batches([(shard.view, indices) for shard, indices in groups])
    rows: list[Tensor] = []
    for (shard, _), batch in zip(groups, batches, strict=True):
        rows.append(_packed(batch, samples, methods, source, store))
        if sum(map(len, rows)) == shard.rows:
            yield shard, np.ascontiguousarray(torch.cat(rows).numpy())
            rows = []


def _packed(batch: Batch, samples: TrainSamples, methods: Sequence[Distiller], source: Online, store: Store) -> Tensor:
    with torch.no_grad(), samples.precision():
        found = source.of(methods, batch, [True] * len(methods))
    parts = [
        part.block.pack(knowledge or {}, method.name)
        for part, method, knowledge in zip(store.parts, methods, found, strict=True)
        if part.block.fields  # a method that learns from labels alone keeps nothing
    ]
    return torch.cat(parts, 1).cpu()


def _batches(shard: Shard, size: int) -> Iterator[range]:
    end = shard.first + shard.rows
    return (range(first, min(first + size, end)) for first in range(shard.first, end, size))


def _blank(images: Tensor, boxes: int, classes: int) -> Batch:
    """The boxes lie on the first image."""
    corners = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.2, 0.3, 0.9, 0.8], [0.5, 0.5, 0.7, 0.9]]) * images.shape[-1]
    number = torch.arange(boxes)
    whose, ids, boxes_px = (
        value.to(images.device) for value in (torch.zeros_like(number), number % classes, corners[number % 3])
    )
    return Batch(images=images, image_index=whose, class_ids=ids, boxes_px=boxes_px)


def in_bytes(count: float) -> str:
    """For people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1000
    return f"{count:.3g} TB"
