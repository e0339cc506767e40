"""Predictions of queries made by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.parts import QueryPart
from edgekd.detectors.queries import QueryPredictions
from edgekd.detectors.spec import QueryHead, Spec

from ..helpers import spec

GIVES: tuple[QueryPart, ...] = (
    "class_logits", "boxes", "layers", "embeddings", "memory", "decoder", "class_embedding", "self_attention",
    "cross_attention", "reference_boxes",
)  # fmt: skip


def query_spec(
    name: str = "detr", layers: int = 1, width: int = 4, strides: tuple[int, ...] = (8,), bins: int = 1
) -> Spec:
    """A query detector that gives everything."""
    return spec(name, head=QueryHead(layers, 300, width, bins, strides=strides, gives=GIVES))


def predictions(logits: Tensor, boxes_px: Tensor, **inside: object) -> QueryPredictions:
    """One layer's, of (B, Q, K) and (B, Q, 4)."""
    return QueryPredictions(logits[None], boxes_px[None], (0,), **inside)  # type: ignore[arg-type]


def output(queries: QueryPredictions) -> DetectorOutput:
    """A pass that has nothing else."""
    return DetectorOutput({}, {}, queries)


def one_object(size_px: int = 100) -> Batch:
    """An image of 100 px with an object of class 1 from (0, 0) to (40, 40)."""
    return Batch(
        torch.zeros(1, 3, size_px, size_px), torch.tensor([0]), torch.tensor([1]), torch.tensor([[0.0, 0, 40, 40]])
    )


LOGITS = torch.tensor([[[2.0, -3.0, -3.0], [-3.0, 1.0, -3.0], [-3.0, -3.0, -2.0]]])
BOXES = torch.tensor([[[50.0, 50, 90, 90], [0, 0, 40, 40], [0, 60, 20, 80]]])
