"""The decoders of DETR and what came of it from inside; tensors by the names of `inside`.

As there, the library's own forward runs and hooks note what goes in and out. What only its training would predict, from
the layers before the last one, is predicted here by its own heads. Of attention to every cell `cells-<layer>` (B, Q, N)
are the weights, a mean over heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.detectors.parts import Attention, QueryPart
from edgekd.detectors.spec import Part
from edgekd.detectors.transformers.inside import Seen, deformable_attention

_TYPES = ("detr", "table-transformer", "conditional_detr", "dab-detr", "deformable_detr")
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

    A decoder can be asked where a query's position is made of its box: by DAB-DETR and two-stage Deformable DETR. The
    others have learned positions, which no box of a question could replace.
    """
    found: tuple[QueryPart, ...] = ("layers", "embeddings", "memory", "self_attention", "cross_attention")
    asked = network.config.model_type == "dab-detr" or getattr(network.config, "two_stage", False)
    return (*found, "decoder", "reference_boxes") if asked else found


@contextmanager
def watched(network: Any, parts: frozenset[Part]) -> Iterator[Seen]:
    """During the block, what the decoder is given and gives in one pass."""
    seen, decoder = Seen(), network.model.decoder

    def began(_module: Any, _inputs: Any, given: dict[str, Any]) -> None:
        seen.decoder = given

    def ended(_module: Any, _inputs: Any, output: Any) -> None:
        seen.output = output

    def layer_ended(_module: Any, _inputs: Any, output: Any) -> None:
        seen.embeddings.append(output if isinstance(output, Tensor) else output[0])

    with ExitStack() as stack:
        stack.callback(decoder.register_forward_pre_hook(began, with_kwargs=True).remove)
        stack.callback(decoder.register_forward_hook(ended).remove)
        for index, layer in enumerate(decoder.layers):
            stack.callback(layer.register_forward_hook(layer_ended).remove)
            among, across = _attentions(layer)
            if Attention("self", index) in parts:
                stack.enter_context(_weights_noted(among, seen, f"self-{index}"))
            if Attention("cross", index) not in parts:
                continue
            if hasattr(across, "sampling_offsets"):
                hook = deformable_attention(seen, index)
                stack.callback(across.register_forward_hook(hook, with_kwargs=True).remove)
            else:
                stack.enter_context(_weights_noted(across, seen, f"cells-{index}"))
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


def _attentions(layer: Any) -> tuple[Any, Any]:
    """Of a layer, among queries and to the memory; DAB-DETR's stand in modules that project for them."""
    if hasattr(layer, "cross_attn"):
        return layer.self_attn.self_attn, layer.cross_attn.cross_attn
    return layer.self_attn, layer.encoder_attn


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
    begun = getattr(seen.output, "reference_points", None)
    if begun is not None and begun.dim() == 4:  # of DAB-DETR, by layer
        return list(begun)
    return [None if begun is None else begun.transpose(0, 1)] * layers  # of Conditional DETR (Q, B, 2), for all layers


def _box(network: Any, layer: int, state: Tensor, reference: Tensor | None) -> Tensor:
    """Boxes (B, Q, 4), centre and size in 0..1."""
    change: Tensor = _head(network, "bbox_embed", "bbox_predictor", layer)(state)
    if reference is not None:
        change = change + F.pad(torch.logit(reference, eps=_EPSILON), (0, 4 - reference.shape[-1]))
    return change.sigmoid()


def _head(network: Any, of_layers: str, common: str, layer: int) -> Any:
    """What predicts behind a layer: one head for all, or each layer's own."""
    head = getattr(network, of_layers, None) or getattr(network, common)
    return head[layer] if isinstance(head, nn.ModuleList) else head


@contextmanager
def _weights_noted(part: Any, seen: Seen, name: str) -> Iterator[None]:
    """During the block an attention gives its weights: it is told to, or computed without a fused kernel."""

    def told(_module: Any, inputs: Any, given: dict[str, Any]) -> Any:
        return inputs, {**given, "output_attentions": True}

    def ended(_module: Any, _inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        seen.looks[name] = output[1].float().mean(1)

    before = getattr(part, "config", None)
    with ExitStack() as stack:
        stack.callback(part.register_forward_hook(ended).remove)
        if "output_attentions" in inspect.signature(part.forward).parameters:
            stack.callback(part.register_forward_pre_hook(told, with_kwargs=True).remove)
        else:
            stack.callback(setattr, part, "config", before)
            part.config = _Eager()
        yield


class _Eager:
    """All that an attention reads of its configuration: by which function it is computed."""

    _attn_implementation = "eager"
