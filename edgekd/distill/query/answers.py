"""Extractors at work on a batch: what their queries find, what their heads make of it, and which query is for whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.distill.boxes import centred
from edgekd.distill.matching import Matches
from edgekd.distill.queries import image_size
from edgekd.distill.query.absorbing import matched_with_objects, matched_with_own
from edgekd.distill.query.deformable import Pyramid
from edgekd.distill.query.extractor import Extractor, Extractors, Queries
from edgekd.distill.query.probes import Probes


@dataclass(frozen=True)
class Extracted:
    """What one kind of query found.

    Attributes:
        queries, embeddings: q, and z (B, N, C).
        logits: (B, N, K).
        boxes: (B, N, 4), centre and size in 0..1.
        matches: of queries with rows of the batch's ground truth.
    """

    queries: Queries
    embeddings: Tensor
    logits: Tensor
    boxes: Tensor
    matches: Matches

    @property
    def positive(self) -> Tensor:
        """(B, N) bool, queries that an object is for."""
        return self.matches.matched(*self.boxes.shape[:2])

    def named(self, kind: str) -> dict[str, Tensor]:
        """What a student learns from, by name; see `UniKD.knowledge`."""
        return {
            f"{kind}.queries": self.queries.values, f"{kind}.places": self.queries.places,
            f"{kind}.embeddings": self.embeddings, f"{kind}.positive": self.positive,
        }  # fmt: skip


def of_content(extractors: Extractors, pyramid: Pyramid, batch: Batch) -> Extracted:
    """Learned queries, matched with objects by what they say."""
    queries, embeddings, logits, boxes = _asked(extractors.content, pyramid)
    return Extracted(queries, embeddings, logits, boxes, matched_with_objects(logits, boxes, batch))


def of_positional(extractors: Extractors, pyramid: Pyramid, batch: Batch, probes: Probes) -> Extracted:
    """Queries of boxes, each matched with the object that it comes from."""
    places = centred(probes.boxes_px, image_size(batch))
    return Extracted(*_asked(extractors.positional, pyramid, places), matched_with_own(probes))


def _asked(
    extractor: Extractor, pyramid: Pyramid, places: Tensor | None = None
) -> tuple[Queries, Tensor, Tensor, Tensor]:
    queries = extractor.queries(pyramid, places)
    embeddings = extractor(queries, pyramid)
    return queries, embeddings, *extractor.predictions(embeddings, queries)


@contextmanager
def in_float32(device: torch.device) -> Iterator[None]:
    """No autocast: places in half precision would be off by pixels."""
    with torch.autocast(device.type, enabled=False):
        yield
