"""Questions to the decoders of two-stage Deformable DETR and of DAB-DETR, which make a query's position of its box.

The library's own decoder runs once more, over memory maps (B, C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from edgekd.detectors.queries import as_tokens
from edgekd.detectors.spec import Part
from edgekd.detectors.transformers.detr import found_in, watched
from edgekd.detectors.transformers.inside import LEAST, levels_of, wants_memory


def ask(
    network: Any, columns: Sequence[int], content: Tensor, boxes: Tensor, maps: Sequence[Tensor], parts: frozenset[Part]
) -> dict[str, Tensor]:
    """What every layer makes of queries (B, Q, C) at boxes (B, Q, 4); tensors by name as of a pass."""
    boxes = boxes.clamp(LEAST, 1 - LEAST)
    given = _two_stage(network, boxes, maps) if _is_two_stage(network) else _anchored(network, boxes, maps)
    with watched(network, parts) as seen:
        network.model.decoder(inputs_embeds=content, **given)
    found = found_in(network, seen, parts, every=True)
    if wants_memory(parts):
        found |= {f"memory-{level}": one for level, one in enumerate(maps)}
    return {**found, "scores": found["scores"][..., list(columns)]}


def own_content(network: Any, _maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """(B, Q, C), what a decoder itself puts into queries at boxes (B, Q, 4), whatever the image.

    Made of the box where there are two stages. Of DAB-DETR zeros, or what was learned for each query in its order.
    """
    if _is_two_stage(network):
        return _of_boxes(network, boxes)[1]
    base, count = network.model, boxes.shape[1]
    if not base.num_patterns:
        return boxes.new_zeros(len(boxes), count, base.hidden_size)
    learned: Tensor = base.patterns.weight.repeat_interleave(base.num_queries, 0)
    return learned[torch.arange(count, device=boxes.device) % len(learned)].expand(len(boxes), -1, -1)


def _is_two_stage(network: Any) -> bool:
    return bool(getattr(network.config, "two_stage", False))


def _two_stage(network: Any, boxes: Tensor, maps: Sequence[Tensor]) -> dict[str, Any]:
    return {
        **levels_of(maps),
        "object_queries_position_embeddings": _of_boxes(network, boxes)[0],
        "reference_points": boxes,
        "valid_ratios": boxes.new_ones(len(boxes), len(maps), 2),
    }


def _of_boxes(network: Any, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Position and content (B, Q, C) of queries, both made of their boxes alone."""
    base = network.model
    encoded = base.get_proposal_pos_embed(boxes.clamp(LEAST, 1 - LEAST).logit())
    position, content = base.pos_trans_norm(base.pos_trans(encoded)).chunk(2, -1)
    return position, content


def _anchored(network: Any, boxes: Tensor, maps: Sequence[Tensor]) -> dict[str, Any]:
    (memory,) = maps
    whole = torch.ones_like(memory[:, 0])
    return {
        "encoder_hidden_states": as_tokens(maps),
        "query_position_embeddings": boxes.logit(),
        "object_queries": as_tokens([network.model.backbone.position_embedding(memory, whole).to(memory.dtype)]),
        "memory_key_padding_mask": None,
    }
