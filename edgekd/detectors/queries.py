"""What a query detector gives beside its predictions: queries, memory, attention, and a decoder that can be asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.box_bins import BoxBins
from edgekd.detectors.parts import Attention
from edgekd.detectors.spec import Part

Found = TypeVar("Found")
NO_PARTS: frozenset[Part] = frozenset()
_ANCHOR = 0.05  # side of the finest level's anchors, as a share of the image; the next level's are twice as large


@dataclass(frozen=True)
class CrossAttention:
    """Where the queries of one layer look in the memory, as a mean over heads.

    Attributes:
        weights: (B, Q, S), of the S places at which each query looks; they sum to 1.
        places: (B, Q, S, 2), x and y in 0..1 of the image, of deformable attention. None: each query looks at every
            cell, S is all cells of all levels, finest first, row by row.
        levels: (S,) int64, the level of each place.
        sizes: (H, W) of each level.
    """

    weights: Tensor
    places: Tensor | None
    levels: Tensor
    sizes: tuple[tuple[int, int], ...]

    def onto_levels(self, of_queries: Tensor) -> tuple[Tensor, ...]:
        """Per level (B, H, W): the sum of the attention of all queries, each times its part in `of_queries` (B, Q).

        In float32, whatever the attention is in. A place between cells is shared among the four around it, as bilinear
        sampling reads them. What lies outside the map is lost.
        """
        weights = self.weights * of_queries.unsqueeze(-1)
        maps = []
        for level, (height, width) in enumerate(self.sizes):
            here = (self.levels == level).nonzero().flatten()
            chosen = weights.index_select(2, here).float()
            if self.places is None:
                maps.append(chosen.sum(1).reshape(-1, height, width))
            else:
                maps.append(_splat(self.places.index_select(2, here).flatten(1, 2), chosen.flatten(1), height, width))
        return tuple(maps)


@dataclass(frozen=True)
class States:
    """Queries on their way through the decoder.

    Attributes:
        content: (B, Q, C), with which the first layer began.
        embeddings: (D, B, Q, C) behind each layer of `QueryPredictions.layers`.
        references: (D, B, Q, 4), the boxes with which each layer began: centre and size in 0..1 of the image. The first
            row belongs to `content`. A family of reference points has boxes of no size there. None: it has neither.
    """

    content: Tensor
    embeddings: Tensor
    references: Tensor | None


@dataclass(frozen=True)
class Decoder:
    """A query detector's decoder over the memory of one pass, which can be asked about any queries.

    The queries of a question see one another and the memory, and nothing of the detector's own queries, nor do those
    see them: the same as a group of their own behind an attention mask. The weights are the detector's, the memory is
    that of the pass. Of a teacher there are no gradients; of a student in training they reach its decoder and, through
    the memory, all before it. It may be asked more than once.

    Attributes:
        width: C of a query's content.
        run: (content (B, Q, C), boxes (B, Q, 4), parts) -> predictions of every layer; see `ask`.
        own_content: (boxes (B, Q, 4)) -> (B, Q, C); see `content_at`.
        class_embedding: (K, C), the content of a query that shall be of a class: what denoising queries are made of.
            None: the detector has no such thing.
    """

    width: int
    run: Callable[[Tensor, Tensor, frozenset[Part]], QueryPredictions] = field(repr=False)
    own_content: Callable[[Tensor], Tensor] = field(repr=False)
    class_embedding: Tensor | None = field(default=None, repr=False)

    def ask(self, content: Tensor, boxes: Tensor, parts: frozenset[Part] = NO_PARTS) -> QueryPredictions:
        """What every layer makes of these queries.

        Args:
            content: (B, Q, C), without position; C is `width`.
            boxes: (B, Q, 4), centre and size in 0..1 of the image: where the first layer begins.
            parts: of `embeddings` and `Attention`, what is given beside class logits and boxes.
        """
        return self.run(content, boxes, parts)

    def content_at(self, boxes: Tensor) -> Tensor:
        """(B, Q, C), without gradients: what the detector itself would put into queries at these boxes (B, Q, 4).

        A detector that makes content of its memory reads it at the centre, on the level for the box's size. One whose
        content is learned gives its own queries' in their order, from the first again where more are asked for.
        """
        with torch.no_grad():
            return self.own_content(boxes)

    def within(self, context: Callable[[], AbstractContextManager[object]]) -> Decoder:
        """The same decoder, which answers every question in a context of its own."""

        def run(content: Tensor, boxes: Tensor, parts: frozenset[Part]) -> QueryPredictions:
            with context():
                return self.run(content, boxes, parts)

        def own_content(boxes: Tensor) -> Tensor:
            with context():
                return self.own_content(boxes)

        return replace(self, run=run, own_content=own_content)

    def with_classes(self, index: Tensor, known: Tensor | None) -> Decoder:
        """The same decoder with classes in another order: the column (K,) of each, and which it knows (None: all)."""
        embedding = None if self.class_embedding is None else self.class_embedding.index_select(0, index)

        def run(content: Tensor, boxes: Tensor, parts: frozenset[Part]) -> QueryPredictions:
            return self.run(content, boxes, parts).with_classes(index, known)

        return replace(self, run=run, class_embedding=embedding)


@dataclass
class QueryPredictions:
    """Predictions of a query head, denoising queries removed.

    What else was asked for is read by the properties, which name the part that is missing.

    Attributes:
        class_logits: (D, B, Q, K), one row per decoder layer in `layers`.
        boxes_px: (D, B, Q, 4), x1 y1 x2 y2 px.
        layers: which decoder layers these are, counted from 0: all in training, where `layers` was asked for, and of a
            question; else the last one.
        known_classes: as in `DensePredictions`.
        box_logits: (D, B, Q, 4, bins) of left, top, right, bottom; None without a distribution.
        bins: where they lie, of boxes (D, B, Q, 4).
        states, maps, looks, noisy, asked: what `embeddings`, `memory`, `Attention`, `denoising`, `decoder` gave.
    """

    class_logits: Tensor
    boxes_px: Tensor
    layers: tuple[int, ...]
    known_classes: Tensor | None = None
    box_logits: Tensor | None = None
    bins: BoxBins | None = None
    states: States | None = None
    maps: tuple[Tensor, ...] | None = None
    looks: Mapping[Attention, Tensor | CrossAttention] = field(default_factory=dict)
    noisy: QueryPredictions | None = None
    asked: Decoder | None = None

    @property
    def content(self) -> Tensor:
        """(B, Q, C), with which the first layer began."""
        return _given(self.states, "embeddings").content

    @property
    def embeddings(self) -> Tensor:
        """(D, B, Q, C), behind each of `layers`."""
        return _given(self.states, "embeddings").embeddings

    @property
    def references(self) -> Tensor:
        """(D, B, Q, 4), the boxes with which each of `layers` began; see `States`."""
        return _given(_given(self.states, "embeddings").references, "reference_boxes")

    @property
    def memory(self) -> tuple[Tensor, ...]:
        """Per level, finest first, (B, C, H, W): what cross-attention reads."""
        return _given(self.maps, "memory")

    @property
    def decoder(self) -> Decoder:
        """The decoder over this pass's memory."""
        return _given(self.asked, "decoder")

    @property
    def denoising(self) -> QueryPredictions | None:
        """Predictions of a student's denoising queries in training; None where the batch has no object."""
        return self.noisy

    def self_attention(self, layer: int) -> Tensor:
        """(B, Q, Q), mean over heads; the rows sum to 1: which queries each query looks at."""
        found = self.looks.get(Attention("self", layer))
        return _given(found if isinstance(found, Tensor) else None, f'Attention("self", {layer})')

    def cross_attention(self, layer: int) -> CrossAttention:
        """Where the queries of a layer look in the memory."""
        found = self.looks.get(Attention("cross", layer))
        return _given(found if isinstance(found, CrossAttention) else None, f'Attention("cross", {layer})')

    def with_classes(self, index: Tensor, known: Tensor | None) -> QueryPredictions:
        """Class logits in another order: the column (K,) of each class, and which are known (None: all)."""
        place = index.to(self.class_logits.device)
        return replace(
            self,
            class_logits=self.class_logits.index_select(-1, place),
            known_classes=known,
            asked=None if self.asked is None else self.asked.with_classes(place, known),
        )


def corners_px(boxes: Tensor, images: Tensor) -> Tensor:
    """Boxes (..., 4), centre and size in 0..1 of the images (B, C, H, W), as x1 y1 x2 y2 in pixels, float32."""
    height, width = images.shape[-2:]
    boxes = boxes.float()  # half precision is off by half a pixel from 512 px on
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1) * boxes.new_tensor([width, height, width, height])


def as_maps(tokens: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    """Tokens (B, all cells, C) of levels (H, W), finest first, as maps (B, C, H, W)."""
    batch, _, width = tokens.shape
    parts = torch.split(tokens, [height * width for height, width in sizes], dim=1)
    return tuple(part.transpose(1, 2).reshape(batch, width, *size) for part, size in zip(parts, sizes, strict=True))


def as_tokens(maps: Sequence[Tensor]) -> Tensor:
    """Maps (B, C, H, W) as tokens (B, all cells, C)."""
    return torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)


def content_at(maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """(B, Q, C) of maps (B, C, H, W) at the centres of boxes, each from the level of the nearest anchors' size.

    For decoders that make content of their memory, as RT-DETR and what came of it.
    """
    side = (boxes[..., 2] * boxes[..., 3]).sqrt().clamp_min(1e-4)
    level = (side / _ANCHOR).log2().round().clamp(0, len(maps) - 1)
    grid = (2 * boxes[..., None, :2] - 1).to(maps[0].dtype)  # (B, Q, 1, 2)
    read = [
        F.grid_sample(one, grid, mode="bilinear", padding_mode="border", align_corners=False)
        .squeeze(-1)
        .transpose(1, 2)
        for one in maps
    ]
    return torch.stack([one * (level == index)[..., None] for index, one in enumerate(read)]).sum(0)


def explicit_attention(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """(B, Q, N) of projected queries (B, Q, C) and keys (B, N, C): softmax(q k / sqrt(C / heads)), mean over heads.

    What fused kernels do not hand out.
    """
    ours, theirs = (side.reshape(*side.shape[:2], heads, -1).transpose(1, 2) for side in (queries, keys))
    logits = ours @ theirs.transpose(2, 3) / math.sqrt(ours.shape[-1])
    return logits.float().softmax(-1).mean(1)


def _splat(places: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """Weights (B, N) at places (B, N, 2) in 0..1, bilinear, on (B, height, width), float32."""
    places = places.float()  # half precision cannot count to the number of cells
    x, y = places[..., 0] * width - 0.5, places[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    total = weights.new_zeros(len(weights), height * width)
    for column, across in ((left, left + 1 - x), (left + 1, x - left)):
        for row, down in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            cell = (row * width + column).where(inside, column.new_zeros(())).long()
            total = total.scatter_add(1, cell, weights * across * down * inside)
    return total.reshape(-1, height, width)


def _given(value: Found | None, part: str) -> Found:
    if value is None:
        raise RuntimeError(f"{part} was not computed: add {part!r} to the method's needs")
    return value
