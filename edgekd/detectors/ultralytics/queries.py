"""RT-DETR's decoder from inside: its layers one by one, what they look at, and questions to it.

In a training the engine's own forward runs and hooks note what its layers were given; in every other pass the layers
are called here. Either way the same tensors come out, by name: `queries boxes` (B, D, Q, 4), centre and size in 0..1,
`queries scores` (B, D, Q, K), `queries embeddings`, `queries references` (B, D, Q, ...), `queries content` (B, Q, C),
`queries memory-<level>` (B, C, H, W), `queries self-<layer>` (B, Q, Q), `queries weights-<layer>` (B, Q, S) and
`queries places-<layer>` (B, Q, S, 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import (
    CrossAttention,
    Decoder,
    QueryPredictions,
    States,
    as_maps,
    as_tokens,
    content_at,
    corners_px,
    explicit_attention,
)
from edgekd.detectors.spec import Part, QueryHead

Sizes = Sequence[Sequence[int]]


def describe_head(head: Any, strides: tuple[int, ...]) -> QueryHead:
    """What an `RTDETRDecoder` is; `strides` of the maps that it is given."""
    return QueryHead(
        layers=int(head.num_decoder_layers),
        queries=int(head.num_queries),
        width=int(head.hidden_dim),
        strides=strides,
        gives=(
            "class_logits", "boxes", "layers", "embeddings", "memory", "decoder", "class_embedding", "denoising",
            "self_attention", "cross_attention", "reference_boxes",
        ),
    )  # fmt: skip


def compute(head: Any, features: list[Tensor], parts: frozenset[Part]) -> dict[str, Tensor]:
    """Of a pass that is no training: what the head makes of its (B, C, H, W) inputs."""
    memory, sizes = head._get_encoder_input(features)
    content, logits, _, _ = head._get_decoder_input(memory, sizes)
    every = head.training or "layers" in parts
    found = decode(head, content, logits.sigmoid(), memory, sizes, parts, every=every)
    return {f"queries {name}": value for name, value in found.items()}


def decode(
    head: Any, content: Tensor, boxes: Tensor, memory: Tensor, sizes: Sizes, parts: frozenset[Part], *, every: bool
) -> dict[str, Tensor]:
    """Run the decoder's layers on queries, as the engine does: each refines the boxes of the one before it.

    Args:
        content: (B, Q, C).
        boxes: (B, Q, 4), centre and size in 0..1.
        memory: (B, cells, C), of levels with `sizes`.
        every: give every layer's predictions, not those of the last one that inference needs.
    """
    from ultralytics.nn.modules.utils import inverse_sigmoid

    last = len(head.decoder.layers) - 1 if every else head.decoder.eval_idx
    value, before, path, looks = content, boxes, _Path(content), {}
    for index, layer in enumerate(head.decoder.layers[: last + 1]):
        position = head.query_pos_head(boxes)
        looks.update(_look(layer, index, parts, value, position, boxes, sizes))
        value = layer(value, boxes, memory, sizes, None, None, position)
        change = head.dec_bbox_head[index](value)
        refined = torch.sigmoid(change + inverse_sigmoid(boxes))
        if every or index == last:
            # in training the gradient of a layer's boxes reaches the layer before it, that of the next layer does not
            own = torch.sigmoid(change + inverse_sigmoid(before)) if head.training else refined
            path.add(own, head.dec_score_head[index](value), value, boxes)
        before, boxes = refined, refined.detach() if head.training else refined
    return {**path.tensors(parts), **_memory(memory, sizes, parts), **looks}


@dataclass
class _Path:
    """What layers gave, one after another."""

    content: Tensor
    rows: dict[str, list[Tensor]] = field(default_factory=dict)

    def add(self, boxes: Tensor, scores: Tensor, embedding: Tensor, references: Tensor) -> None:
        for name, value in (
            ("boxes", boxes), ("scores", scores), ("embeddings", embedding), ("references", references)
        ):  # fmt: skip
            self.rows.setdefault(name, []).append(value)

    def tensors(self, parts: frozenset[Part]) -> dict[str, Tensor]:
        names = ("boxes", "scores", "embeddings", "references") if "embeddings" in parts else ("boxes", "scores")
        content = {"content": self.content} if "embeddings" in parts else {}
        return {**content, **{name: torch.stack(self.rows[name], 1) for name in names}}


def _memory(memory: Tensor, sizes: Sizes, parts: frozenset[Part]) -> dict[str, Tensor]:
    """Its maps; a question is asked over them, and places are places in them."""
    if not any(part in ("memory", "decoder") or _is_cross(part) for part in parts):
        return {}
    maps = as_maps(memory, [(int(height), int(width)) for height, width in sizes])
    return {f"memory-{level}": one for level, one in enumerate(maps)}


def _look(
    layer: Any, index: int, parts: frozenset[Part], value: Tensor, position: Tensor, boxes: Tensor, sizes: Sizes
) -> dict[str, Tensor]:
    """What of a layer's attention is asked for; the layer itself computes it in kernels that do not hand it out."""
    found: dict[str, Tensor] = {}
    placed = value + position
    if Attention("self", index) in parts:
        part = layer.self_attn
        projected = F.linear(placed, part.in_proj_weight, part.in_proj_bias)
        queries, keys, _ = projected.chunk(3, -1)
        found[f"self-{index}"] = explicit_attention(queries, keys, part.num_heads)
    if Attention("cross", index) in parts:
        across = placed.transpose(0, 1)
        seen = layer.self_attn(across, across, value.transpose(0, 1), need_weights=False)[0].transpose(0, 1)
        weights, places = _deformed(layer.cross_attn, layer.norm1(value + seen) + position, boxes)
        found[f"weights-{index}"], found[f"places-{index}"] = weights, places
    return found


def _deformed(part: Any, queries: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, Q, S) and places (B, Q, S, 2) of deformable attention; S: heads, then levels, then points."""
    batch, count = queries.shape[:2]
    offsets = part.sampling_offsets(queries).view(batch, count, part.n_heads, -1, 2)
    weights = part.attention_weights(queries).view(batch, count, part.n_heads, -1).float().softmax(-1)
    centre, size = boxes[:, :, None, None, :2], boxes[:, :, None, None, 2:]
    places = centre + offsets / part.n_points * size * 0.5
    return weights.flatten(2) / part.n_heads, places.flatten(2, 3)


@contextmanager
def watched(head: Any, parts: frozenset[Part]) -> Iterator[list[tuple[Any, ...]]]:
    """During the block, the inputs and the output of each decoder layer of one pass, where `parts` need them."""
    seen: list[tuple[Any, ...]] = []
    inside = any(isinstance(part, Attention) or part in ("embeddings", "memory", "decoder") for part in parts)

    def hook(_module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        if len(seen) < len(head.decoder.layers):
            seen.append((*inputs, output))

    handles = [layer.register_forward_hook(hook) for layer in head.decoder.layers] if inside else []
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def of_training(head: Any, raw: Any, seen: Sequence[tuple[Any, ...]], parts: frozenset[Part]) -> dict[str, Tensor]:
    """The tensors by name of a training pass, denoising queries under `denoising`; `raw` is what the head returned."""
    boxes, scores, _, _, denoising = raw if len(raw) == 5 else raw[1]
    noisy = denoising["dn_num_split"][0] if denoising is not None else 0
    found = {"boxes": boxes[:, :, noisy:].movedim(0, 1), "scores": scores[:, :, noisy:].movedim(0, 1)}
    if noisy and "denoising" in parts:
        found["noisy-boxes"], found["noisy-scores"] = (one[:, :, :noisy].movedim(0, 1) for one in (boxes, scores))
    if seen:
        found |= _seen(head, seen, noisy, parts)
    return {f"queries {name}": value for name, value in found.items()}


def _seen(head: Any, seen: Sequence[tuple[Any, ...]], noisy: int, parts: frozenset[Part]) -> dict[str, Tensor]:
    """Queries behind the denoising ones do not see those, so they may be looked at alone."""
    _, _, memory, sizes, *_ = seen[0]
    found = _memory(memory, sizes, parts)
    for index, (value, boxes, _, _, _, _, position, _) in enumerate(seen):
        mine, placed, around = (one[:, noisy:] for one in (value, position, boxes))
        found |= _look(head.decoder.layers[index], index, parts, mine, placed, around, sizes)
    if "embeddings" in parts:
        found["content"] = seen[0][0][:, noisy:]
        found["embeddings"] = torch.stack([one[-1][:, noisy:] for one in seen], 1)
        found["references"] = torch.stack([one[1][:, noisy:] for one in seen], 1)
    return found


def predictions(head: Any, heads: Mapping[str, Tensor], images: Tensor) -> QueryPredictions:
    """The common form of the tensors by name."""
    found = {name.removeprefix("queries "): value for name, value in heads.items()}
    boxes, scores = found["boxes"].movedim(1, 0), found["scores"].movedim(1, 0)
    count = len(head.decoder.layers)
    layers = tuple(range(count)) if len(boxes) == count else (int(head.decoder.eval_idx),)
    maps = tuple(value for name, value in found.items() if name.startswith("memory-"))
    states = None
    if "content" in found:
        states = States(found["content"], *(found[name].movedim(1, 0) for name in ("embeddings", "references")))
    noisy = None
    if "noisy-boxes" in found:
        places, logits = (found[name].movedim(1, 0) for name in ("noisy-boxes", "noisy-scores"))
        noisy = QueryPredictions(logits, corners_px(places, images), layers)
    return QueryPredictions(
        class_logits=scores,
        boxes_px=corners_px(boxes, images),
        layers=layers,
        states=states,
        maps=maps or None,
        looks=_looks(head, found, maps),
        noisy=noisy,
        asked=_decoder(head, maps, images) if maps else None,
    )


def _looks(head: Any, found: Mapping[str, Tensor], maps: Sequence[Tensor]) -> dict[Attention, Tensor | CrossAttention]:
    looks: dict[Attention, Tensor | CrossAttention] = {}
    for name, value in found.items():
        kind, _, index = name.partition("-")
        if kind == "self":
            looks[Attention("self", int(index))] = value
        elif kind == "weights":
            part = head.decoder.layers[int(index)].cross_attn
            levels = torch.arange(part.n_levels, device=value.device).repeat_interleave(part.n_points)
            sizes = tuple(_size(one) for one in maps)
            cross = CrossAttention(value, found[f"places-{index}"], levels.repeat(part.n_heads), sizes)
            looks[Attention("cross", int(index))] = cross
    return looks


def _decoder(head: Any, maps: Sequence[Tensor], images: Tensor) -> Decoder:
    """Questions to a head over memory maps."""
    dtype = head.dec_score_head[0].weight.dtype  # of a teacher with a precision of its own, half
    memory, sizes = as_tokens(maps), [list(_size(one)) for one in maps]

    def run(content: Tensor, boxes: Tensor, parts: frozenset[Part]) -> QueryPredictions:
        value, places, seen = (one.to(dtype) for one in (content, boxes, memory))
        return predictions(head, decode(head, value, places, seen, sizes, parts, every=True), images)

    def own_content(boxes: Tensor) -> Tensor:
        if head.learnt_init_query:
            place = torch.arange(boxes.shape[1], device=boxes.device) % head.num_queries
            learned: Tensor = head.tgt_embed.weight[place].expand(len(boxes), -1, -1)
            return learned
        valid = head._generate_anchors(sizes, memory.to(dtype))[1]
        return content_at(as_maps(head.enc_output(valid * memory.to(dtype)), [_size(one) for one in maps]), boxes)

    return Decoder(int(head.hidden_dim), run, own_content, head.denoising_class_embed.weight)


def _size(one: Tensor) -> tuple[int, int]:
    return int(one.shape[2]), int(one.shape[3])


def _is_cross(part: Part) -> bool:
    return isinstance(part, Attention) and part.kind == "cross"
