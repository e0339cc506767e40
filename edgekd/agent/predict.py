# SPDX-License-Identifier: Apache-2.0
"""`predict`: raw detections of every image of a pack, as fast as the allowed threads can."""

from __future__ import annotations

from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import List

from .pipeline import Pipeline, announce_end
from .postprocess import Decoded
from .protocol import Writer, heartbeats, pack_array


def predict(arguments: Namespace, writer: Writer) -> None:
    """Write one `detections` event per image, in letterboxed pixels, in the order of the pack.

    Each of the threads runs a model of its own on images of its own: small models gain little from several threads on
    one image. What latency is, `profile` says.

    The last batch of a fixed size is filled up with its last image, whose surplus results are left out.
    """
    one_thread = Namespace(**{**vars(arguments), "threads": 1})
    with heartbeats(writer, "loading the model"):
        first = Pipeline(one_thread)
        starts = range(0, len(first.images), first.batch)
        lanes = [first] + [Pipeline(one_thread) for _ in range(min(arguments.threads, len(starts)) - 1)]
    _fill(first, 0)
    first.announce(writer, images=len(first.images), lanes=len(lanes))
    first.announce_load(writer)
    free: "SimpleQueue[Pipeline]" = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def detect(start: int) -> List[Decoded]:
        lane = free.get()
        try:
            return detect_batch(lane, start)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for start, batch in zip(starts, pool.map(detect, starts)):
            for offset, found in enumerate(batch):
                writer.emit(
                    "detections",
                    index=start + offset,
                    boxes_px=pack_array(found.boxes_px),
                    scores=pack_array(found.scores),
                    class_ids=pack_array(found.class_ids),
                )
    announce_end(writer)


def detect_batch(lane: Pipeline, start: int) -> List[Decoded]:
    """Detections of the batch that begins with image `start`."""
    count = _fill(lane, start)
    return lane.decode(lane.infer(), count)


def _fill(lane: Pipeline, start: int) -> int:
    """Bring the batch that begins with image `start` into the lane's buffer; returns how many images it has."""
    images = lane.images[start : start + lane.batch]
    lane.put(images)
    lane.buffer[len(images) :] = lane.buffer[len(images) - 1]
    return len(images)
