"""Parts of a head that are more than a name: attention of one layer, and boxes that are proposed for objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What a query head may give; see `QueryHead.gives`.
QueryPart = Literal[
    "class_logits", "boxes", "layers", "embeddings", "memory", "decoder", "class_embedding", "denoising",
    "self_attention", "cross_attention", "reference_boxes",
]  # fmt: skip


@dataclass(frozen=True)
class Attention:
    """Where the queries of one decoder layer look: a part of a query head that is computed for this layer alone.

    Attributes:
        kind: at one another, or at the encoder's memory.
        layer: of the decoder, from 0.
    """

    kind: Literal["self", "cross"]
    layer: int

    @property
    def name(self) -> QueryPart:
        """As `QueryHead.gives` has it."""
        return "self_attention" if self.kind == "self" else "cross_attention"

    def __str__(self) -> str:
        return f"{self.name} of layer {self.layer}"


@dataclass(frozen=True)
class Proposals:
    """The boxes that a detector is surest of, whatever their class: a part of a head of any kind.

    See `DetectorOutput.proposals`. A region head gives it where it gives its predictions (`RegionHead.gives`).

    Attributes:
        limit: per image, at most.
        nms_iou: above it the weaker of two is left out.
        min_score: in 0..1; only what scores more.
    """

    limit: int
    nms_iou: float
    min_score: float = 0.0

    def __str__(self) -> str:
        return f"proposals ({self.limit} an image, NMS at {self.nms_iou:g}, scores above {self.min_score:g})"
