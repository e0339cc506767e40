"""The decoders of DETR, Conditional DETR and Deformable DETR from inside; tensors by the names of `inside`.

As there, the library's own forward runs and hooks note what goes in and out. What only its training would predict, from
the layers before the last one, is predicted here by its own heads. Of attention to every cell `cells-<layer>` (B, Q, N)
are the weights, a mean over heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.detectors.parts import Attention, QueryPart
from edgekd.detectors.queries import as_tokens
from edgekd.detectors.spec import Part
from edgekd.detectors.transformers.inside import LEAST, Seen, deformable_attention, wants_memory

_TYPES = ("detr", "conditional_detr", "deformable_detr")
_PLAIN: frozenset[Part] = frozenset({"class_logits", "boxes", "memory"})  # what the library's forward gives by itself
_EPSILON = 1e-5  # of the library's inverse of a sigmoid


def has_inside(network: Any) -> bool:
    """Whether a decoder is of a type that this module knows."""
    return network.config.model_type in _TYPES


def looks_inside(network: Any, parts: frozenset[Part]) -> bool:
    """Whether these parts want more of such a decoder than its predictions and its memory."""
    return has_inside(network) and bool(parts - _PLAIN)


def gives(network: Any) -> tuple[QueryPart, ...]:
    """What can be had beside predictions.

    A decoder can be asked where a query's position is made of its box: by two-stage Deformable DETR. The others have
    learned positions, which no box of a question could replace.
    """
    found: tuple[QueryPart, ...] = ("layers", "embeddings", "memory", "self_attention", "cross_attention")
    return (*found, "decoder", "reference_boxes") if getattr(network.config, "two_stage", False) else found


@contextmanager
def watched(network: Any, parts: frozenset[Part]) -> Iterator[Seen]:
    """During the block, what the decoder is given and gives in one pass."""
    seen, decoder = Seen(), network.model.decoder

    def began(_module: Any, _inputs: Any, given: dict[str, Any]) -> None:
        seen.decoder = given

    def ended(_module: Any, _inputs: Any, output: Any) -> None:
        seen.output = output

    def layer_ended(_module: Any, _inputs: Any, output: Tensor) -> None:
        seen.embeddings.append(output)

    with ExitStack() as stack:
        stack.callback(decoder.register_forward_pre_hook(began, with_kwargs=True).remove)
        stack.callback(decoder.register_forward_hook(ended).remove)
        for index, layer in enumerate(decoder.layers):
            stack.callback(layer.register_forward_hook(layer_ended).remove)
            if Attention("self", index) in parts:
                stack.enter_context(_weights_noted(layer.self_attn, seen, f"self-{index}"))
            if Attention("cross", index) not in parts:
                continue
            if hasattr(layer.encoder_attn, "sampling_offsets"):
                hook = deformable_attention(seen, index)
                stack.callback(layer.encoder_attn.register_forward_hook(hook, with_kwargs=True).remove)
            else:
                stack.enter_context(_weights_noted(layer.encoder_attn, seen, f"cells-{index}"))
        yield seen


def found_in(network: Any, seen: Seen, parts: frozenset[Part], *, every: bool) -> dict[str, Tensor]:
    """By name: `scores`, all columns as the library gives them, `boxes`, and what else of the parts is not the memory.

    Args:
        every: of every layer, or of the last one.
    """
    states, references = _states(network, seen), _references(seen)
    kept = range(len(states)) if every else range(len(states) - 1, len(states))
    scores = [_head(network, "class_embed", "class_labels_classifier", at)(states[at]) for at in kept]
    boxes = [_box(network, at, states[at], references[at]) for at in kept]
    found = {"scores": torch.stack(scores, 1), "boxes": torch.stack(boxes, 1), **seen.looks}
    if "embeddings" in parts:
        found["content"] = seen.decoder["inputs_embeds"]
        found["embeddings"] = torch.stack([states[at] for at in kept], 1)
        begun = [F.pad(one, (0, 4 - one.shape[-1])) for one in (references[at] for at in kept) if one is not None]
        if begun:
            found["references"] = torch.stack(begun, 1)
    return found


def ask(
    network: Any, columns: Sequence[int], content: Tensor, boxes: Tensor, maps: Sequence[Tensor], parts: frozenset[Part]
) -> dict[str, Tensor]:
    """What every layer of a two-stage decoder makes of queries over these memory maps; tensors by name as of a pass."""
    sizes = [(int(one.shape[2]), int(one.shape[3])) for one in maps]
    shapes = torch.tensor(sizes, device=content.device)
    with watched(network, parts) as seen:
        network.model.decoder(
            inputs_embeds=content,
            object_queries_position_embeddings=_of_boxes(network, boxes)[0],
            encoder_hidden_states=as_tokens(maps),
            reference_points=boxes.clamp(LEAST, 1 - LEAST),
            spatial_shapes=shapes,
            spatial_shapes_list=sizes,
            level_start_index=torch.cat([shapes.new_zeros(1), shapes.prod(1).cumsum(0)[:-1]]),
            valid_ratios=content.new_ones(len(content), len(sizes), 2),
        )
    found = found_in(network, seen, parts, every=True)
    if wants_memory(parts):
        found |= {f"memory-{level}": one for level, one in enumerate(maps)}
    return {**found, "scores": found["scores"][..., list(columns)]}


def own_content(network: Any, _maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """(B, Q, C), what a two-stage decoder itself puts into queries at boxes (B, Q, 4), whatever the image."""
    return _of_boxes(network, boxes)[1]


def _of_boxes(network: Any, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Position and content (B, Q, C) of queries, both made of their boxes alone."""
    base = network.model
    encoded = base.get_proposal_pos_embed(boxes.clamp(LEAST, 1 - LEAST).logit())
    position, content = base.pos_trans_norm(base.pos_trans(encoded)).chunk(2, -1)
    return position, content


def _states(network: Any, seen: Seen) -> list[Tensor]:
    """Queries (B, Q, C) behind each layer, as the heads read them: behind the norm, where the decoder ends with one.

    The last ones are the decoder's own: with `auxiliary_loss` the library sends them through that norm twice.
    """
    norm = getattr(network.model.decoder, "layernorm", nn.Identity())
    return [*(norm(one) for one in seen.embeddings[:-1]), seen.output.last_hidden_state]


def _references(seen: Seen) -> list[Tensor | None]:
    """Points (B, Q, 2) or boxes (B, Q, 4) in 0..1 with which each layer began; DETR has none."""
    layers = len(seen.embeddings)
    if "reference_points" in seen.decoder:
        later = seen.output.intermediate_reference_points
        return [seen.decoder["reference_points"], *later[:, : layers - 1].unbind(1)]
    points = getattr(seen.output, "reference_points", None)  # of Conditional DETR (Q, B, 2), those of every layer
    return [None if points is None else points.transpose(0, 1)] * layers


def _box(network: Any, layer: int, state: Tensor, reference: Tensor | None) -> Tensor:
    """Boxes (B, Q, 4), centre and size in 0..1."""
    change: Tensor = _head(network, "bbox_embed", "bbox_predictor", layer)(state)
    if reference is not None:
        change = change + F.pad(torch.logit(reference, eps=_EPSILON), (0, 4 - reference.shape[-1]))
    return change.sigmoid()


def _head(network: Any, of_layers: str, common: str, layer: int) -> Any:
    """What predicts behind a layer: one head for all, or each layer's own."""
    return getattr(network, of_layers)[layer] if hasattr(network, of_layers) else getattr(network, common)


@contextmanager
def _weights_noted(part: Any, seen: Seen, name: str) -> Iterator[None]:
    """During the block an attention gives its weights: this one alone is computed without a fused kernel."""

    def ended(_module: Any, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        seen.looks[name] = output[1].float().mean(1)

    before, handle = part.config, part.register_forward_hook(ended)
    part.config = _Eager()
    try:
        yield
    finally:
        part.config = before
        handle.remove()


class _Eager:
    """All that an attention reads of its configuration: by which function it is computed."""

    _attn_implementation = "eager"
