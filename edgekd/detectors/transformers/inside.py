"""The decoders of RT-DETR, D-FINE and DEIMv2 from inside: their layers, what these look at, and questions to them.

The library's own forward runs, in a pass and in a question alike, and hooks note what its layers are given. Tensors by
name, the batch first: `content` (B, Q, C), `embeddings` and `references` (B, D, Q, ...), `memory-<level>` (B, C, H, W),
`self-<layer>` (B, Q, Q), `weights-<layer>` (B, Q, S) and `places-<layer>` (B, Q, S, 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import CrossAttention, States, as_maps, as_tokens, content_at, explicit_attention
from edgekd.detectors.spec import Part

NOTED: tuple[Part, ...] = ("embeddings", "memory", "decoder")
LEAST = 1e-6  # of a side or a place of a box that is asked about, as a share of the image


class Seen:
    """What hooks noted in one pass of a decoder, of all its queries but denoising ones, which stand before the others.

    Attributes:
        first: place of the first query that is none.
        decoder, output: what the decoder was given by keyword, and gave.
    """

    def __init__(self) -> None:
        self.first = 0
        self.decoder: dict[str, Any] = {}
        self.output: Any = None
        self.references: list[Tensor] = []
        self.embeddings: list[Tensor] = []
        self.looks: dict[str, Tensor] = {}

    def tensors(self, parts: frozenset[Part], every: bool) -> dict[str, Tensor]:
        """By name; `every` layer, or the last one alone."""
        if not self.decoder:
            return {}
        found = dict(self.looks)
        memory = self.decoder["encoder_hidden_states"]
        if wants_memory(parts):
            sizes = [(int(height), int(width)) for height, width in self.decoder["spatial_shapes_list"]]
            found |= {f"memory-{level}": one for level, one in enumerate(as_maps(memory, sizes))}
        if "embeddings" in parts:
            first = 0 if every else -1
            found["content"] = self.decoder["inputs_embeds"][:, self.first :]
            found["embeddings"] = torch.stack(self.embeddings[first:], 1)
            found["references"] = torch.stack(self.references[first:], 1)
        return found


def can_be_watched(network: Any) -> bool:
    """Whether a decoder is of the kind that this module knows, and predicts at last from its last layer."""
    decoder, config = network.model.decoder, network.config
    whole = getattr(decoder, "eval_idx", config.decoder_layers - 1) == config.decoder_layers - 1
    return hasattr(network.model, "enc_output") and hasattr(decoder, "query_pos_head") and whole


@contextmanager
def watched(network: Any, parts: frozenset[Part], own: int | None = None) -> Iterator[Seen]:
    """During the block, what the decoder is given and gives in one pass, where `parts` need it.

    Args:
        own: how many queries are no denoising ones; None: all.
    """
    seen = Seen()
    decoder = network.model.decoder

    def began(_module: Any, _inputs: Any, given: dict[str, Any]) -> None:
        seen.decoder = given
        seen.first = 0 if own is None else given["inputs_embeds"].shape[1] - own

    def layer_ended(_module: Any, _inputs: Any, given: dict[str, Any], output: Tensor) -> None:
        seen.references.append(given["reference_points"][:, seen.first :, 0])
        seen.embeddings.append(output[:, seen.first :])

    with ExitStack() as stack:
        if any(isinstance(part, Attention) or part in NOTED for part in parts):
            stack.callback(decoder.register_forward_pre_hook(began, with_kwargs=True).remove)
        for index, layer in enumerate(decoder.layers):
            if "embeddings" in parts:
                stack.callback(layer.register_forward_hook(layer_ended, with_kwargs=True).remove)
            if Attention("self", index) in parts:
                hook = _self_attention(seen, index)
                stack.callback(layer.self_attn.register_forward_hook(hook, with_kwargs=True).remove)
            if Attention("cross", index) in parts:
                hook = deformable_attention(seen, index)
                stack.callback(layer.encoder_attn.register_forward_hook(hook, with_kwargs=True).remove)
        yield seen


@contextmanager
def every_layer(network: Any, wanted: bool) -> Iterator[None]:
    """During the block D-FINE and DEIMv2 predict from each layer, which their decoder does when it is told to train.

    Its layers are not told.
    """
    decoder = network.model.decoder
    if not wanted or decoder.training or not hasattr(decoder, "lqe_layers"):
        yield
        return
    decoder.training = True
    try:
        yield
    finally:
        decoder.training = False


def ask(
    network: Any, columns: Sequence[int], content: Tensor, boxes: Tensor, maps: Sequence[Tensor], parts: frozenset[Part]
) -> dict[str, Tensor]:
    """What every layer makes of queries over these memory maps; tensors by name as of a pass."""
    with every_layer(network, True), watched(network, parts) as seen:
        output = network.model.decoder(
            inputs_embeds=content, reference_points=boxes.clamp(LEAST, 1 - LEAST).logit(), **levels_of(maps)
        )
    return {**layers_of(output, columns, every=True), **seen.tensors(parts, every=True)}


def levels_of(maps: Sequence[Tensor]) -> dict[str, Any]:
    """What a decoder of deformable attention is told of memory maps (B, C, H, W), by the library's keywords."""
    sizes = [(int(one.shape[2]), int(one.shape[3])) for one in maps]
    shapes = torch.tensor(sizes, device=maps[0].device)
    return {
        "encoder_hidden_states": as_tokens(maps),
        "encoder_attention_mask": None,
        "spatial_shapes": shapes,
        "spatial_shapes_list": sizes,
        "level_start_index": torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]]),
    }


def layers_of(output: Any, columns: Sequence[int], *, every: bool) -> dict[str, Tensor]:
    """`scores`, `boxes` and, of a distribution, `corners` and `origins`, of `every` layer or of the last one.

    D-FINE's first layer predicts once more, before it has a distribution; that is left out.
    """
    found = {"scores": output.intermediate_logits, "boxes": output.intermediate_reference_points}
    corners = output.intermediate_predicted_corners
    if isinstance(corners, Tensor):
        found |= {"corners": corners, "origins": output.initial_reference_points}
        found = {name: value[:, -corners.shape[1] :] for name, value in found.items()}
    if not every:
        found = {name: value[:, -1:] for name, value in found.items()}
    kept = list(columns)
    if kept != list(range(found["scores"].shape[-1])):
        found["scores"] = found["scores"][..., kept]
    return found


def own_content(network: Any, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """(B, Q, C), what the library puts into queries at boxes (B, Q, 4): what it makes of its memory there."""
    sizes = tuple((int(one.shape[2]), int(one.shape[3])) for one in maps)
    memory = as_tokens(maps)
    valid = network.model.generate_anchors(sizes, device=memory.device, dtype=memory.dtype)[1]
    return content_at(as_maps(network.model.enc_output(valid.to(memory.dtype) * memory), sizes), boxes)


def states_of(found: Mapping[str, Tensor]) -> States | None:
    """Of tensors by name."""
    if "content" not in found:
        return None
    begun = found.get("references")
    return States(found["content"], found["embeddings"].movedim(1, 0), None if begun is None else begun.movedim(1, 0))


def looks_of(network: Any, found: Mapping[str, Tensor], maps: Sequence[Tensor]) -> dict[Any, Tensor | CrossAttention]:
    """Of tensors by name, in the common form."""
    looks: dict[Any, Tensor | CrossAttention] = {}
    sizes = tuple((int(one.shape[2]), int(one.shape[3])) for one in maps)
    for name, value in found.items():
        kind, _, index = name.partition("-")
        if kind == "self":
            looks[Attention("self", int(index))] = value
        elif kind == "cells":
            levels = torch.arange(len(maps)).repeat_interleave(
                torch.tensor([height * width for height, width in sizes])
            )
            looks[Attention("cross", int(index))] = CrossAttention(value, None, levels.to(value.device), sizes)
        elif kind == "weights":
            part = network.model.decoder.layers[int(index)].encoder_attn
            levels = torch.arange(len(maps)).repeat_interleave(torch.tensor(_points(part, len(maps))))
            places = found[f"places-{index}"]
            looks[Attention("cross", int(index))] = CrossAttention(
                value, places, levels.repeat(part.n_heads).to(value.device), sizes
            )
    return looks


def _self_attention(seen: Seen, index: int) -> Any:
    def hook(part: Any, _inputs: Any, given: dict[str, Any], _output: Any) -> None:
        placed = (given["hidden_states"] + given["position_embeddings"])[:, seen.first :]
        heads = part.q_proj.out_features // part.head_dim
        seen.looks[f"self-{index}"] = explicit_attention(part.q_proj(placed), part.k_proj(placed), heads)

    return hook


def deformable_attention(seen: Seen, index: int) -> Any:
    """A hook that notes where a layer looks: around the centre of a query's box as far as the box is large, or, around
    a point, as many cells away as it says.
    """

    def hook(part: Any, _inputs: Any, given: dict[str, Any], output: tuple[Tensor, Tensor]) -> None:
        placed, begun = given["hidden_states"], given["reference_points"][:, seen.first :, :1]
        if given.get("position_embeddings") is not None:
            placed = placed + given["position_embeddings"]
        weights = output[1][:, seen.first :].flatten(3)  # (B, Q, heads, points of all levels)
        offsets = part.sampling_offsets(placed[:, seen.first :]).reshape(*weights.shape, 2)
        counts = _points(part, part.n_levels)
        if begun.shape[-1] == 2:
            sides = [offsets.new_tensor([width, height]) for height, width in given["spatial_shapes_list"]]
            moved = offsets / torch.cat([side.expand(count, 2) for side, count in zip(sides, counts, strict=True)])
        else:
            reach = torch.cat([offsets.new_full((count,), 1 / count) for count in counts])[:, None]
            moved = offsets * reach * begun[:, :, None, :, 2:] * getattr(part, "offset_scale", 0.5)
        places = begun[:, :, None, :, :2] + moved
        seen.looks[f"weights-{index}"] = weights.flatten(2).float() / part.n_heads
        seen.looks[f"places-{index}"] = places.flatten(2, 3)

    return hook


def _points(part: Any, levels: int) -> list[int]:
    """Of deformable attention, per level."""
    points = part.n_points
    return list(points) if isinstance(points, (list, tuple)) else [int(points)] * levels


def wants_memory(parts: frozenset[Part]) -> bool:
    """Whether any of these parts is read from the memory's maps, or by their sizes."""
    return any(
        part in ("memory", "decoder") or (isinstance(part, Attention) and part.kind == "cross") for part in parts
    )
