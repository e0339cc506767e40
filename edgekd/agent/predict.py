# SPDX-License-Identifier: Apache-2.0
"""`predict`: raw detections of every image of a pack."""

from __future__ import annotations

from argparse import Namespace

from .pipeline import Pipeline, announce_end
from .preprocess import normalise
from .protocol import Writer, pack_array


def predict(arguments: Namespace, writer: Writer) -> None:
    """Write one `detections` event per image, in letterboxed pixels, in the order of the pack.

    The last batch of a fixed size is filled up with its last image, whose surplus results are left out.
    """
    pipeline = Pipeline(arguments)
    for start in range(0, len(pipeline.images), pipeline.batch):
        images = pipeline.images[start : start + pipeline.batch]
        normalise(images, pipeline.artifact.scale, pipeline.buffer[: len(images)])
        pipeline.buffer[len(images) :] = pipeline.buffer[len(images) - 1]
        if start == 0:
            pipeline.announce(writer, images=len(pipeline.images))
            pipeline.announce_load(writer)
        for offset, found in enumerate(pipeline.decode(pipeline.infer(), len(images))):
            writer.emit(
                "detections",
                index=start + offset,
                boxes_px=pack_array(found.boxes_px),
                scores=pack_array(found.scores),
                class_ids=pack_array(found.class_ids),
            )
    announce_end(writer)
