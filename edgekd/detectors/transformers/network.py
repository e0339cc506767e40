"""A network of transformers as edgekd runs it: what goes in, how far it must run, and what of it is read.

Two things are put into the library's network, neither of which is a weight: the pixels' convention, and, where the
encoder gives one sequence of all levels, a module per level through which its map goes, so that a tap can read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.log_odds import log_odds
from edgekd.detectors.queries import NO_PARTS, as_maps
from edgekd.detectors.spec import Part
from edgekd.detectors.transformers import detr, inside
from edgekd.detectors.transformers.folder import Convention

MAPS = "memory_maps"  # where the modules of an encoder's levels stand


def prepare(network: Any, convention: Convention) -> Any:
    """The network with its pixels' convention, made for images of any size."""
    for name, values in (("pixel_mean", convention.mean), ("pixel_std", convention.std)):
        network.register_buffer(name, torch.tensor(values).reshape(1, -1, 1, 1), persistent=False)
    if getattr(network.config, "anchor_image_size", None):
        network.config.anchor_image_size = None  # else its anchors are those of one size
    if network.config.model_type == "dab-detr":
        network.model.decoder.register_forward_pre_hook(_in_its_precision, with_kwargs=True)
    return network


def first_convolution(network: nn.Module) -> nn.Conv2d:
    """The one that reads the image."""
    return next(part for part in network.modules() if isinstance(part, nn.Conv2d))


def with_maps(network: Any, strides: Sequence[int]) -> None:
    """Give the network a module for each level of its encoder's sequence."""
    levels = [nn.Identity() for _ in strides]
    for level, stride in zip(levels, strides, strict=True):
        level.stride = stride  # type: ignore[assignment]
    network.add_module(MAPS, nn.ModuleList(levels))


def trunk(network: Any, images: Tensor) -> None:
    """Everything before the decoder; where the library has no way to stop there, the decoder, too."""
    pixels, mask = masked_pixels(network, images)
    base = network.model
    if hasattr(base, "conv_encoder"):  # DEIMv2
        base.encoder(base.conv_encoder(pixels))
    elif hasattr(base, "encoder_input_proj"):  # RT-DETR, D-FINE
        maps = base.backbone(pixels, mask)
        base.encoder([project(one) for project, (one, _) in zip(base.encoder_input_proj, maps, strict=True)])
    else:
        _as_maps(network, base(pixels, pixel_mask=mask, **_options(network)), images)


def predict(
    network: Any, softmax: bool, columns: Sequence[int], images: Tensor, parts: frozenset[Part] = NO_PARTS
) -> dict[str, Tensor]:
    """Decoder layers with the batch first; with `layers` among the parts every one, else the last.

    Returns:
        `boxes` (B, D, Q, 4), centre and size in 0..1; `scores` (B, D, Q, K), logits of the kept columns whose sigmoid
        is the score; with a box distribution also `corners` (B, D, Q, 4 * bins), logits of left, top, right, bottom,
        and `origins` (B, D, Q, 4), boxes that they are relative to; what else the parts ask for, by the names of
        `inside`.
    """
    pixels, mask = masked_pixels(network, images)
    if inside.can_be_watched(network):
        every = "layers" in parts
        with inside.every_layer(network, every), inside.watched(network, parts) as seen:
            output = network.model(pixels, pixel_mask=mask)
        return {**inside.layers_of(output, columns, every=every), **seen.tensors(parts, every)}
    if detr.looks_inside(network, parts):
        with detr.watched(network, parts) as seen:
            output = network.model(pixels, pixel_mask=mask, **_options(network))
        found = detr.found_in(network, seen, parts, every="layers" in parts)
    else:
        output = network(pixels, pixel_mask=mask, **_options(network))
        found = {"boxes": output.pred_boxes[:, None], "scores": output.logits[:, None]}
        corners = output.get("intermediate_predicted_corners")
        if isinstance(corners, Tensor):
            found |= {"corners": corners[:, -1:], "origins": output.initial_reference_points[:, -1:]}
    logits = log_odds(found["scores"].float().log_softmax(-1)) if softmax else found["scores"]
    found["scores"] = logits[..., list(columns)]
    maps = _as_maps(network, output, images)
    if inside.wants_memory(parts):
        found |= {f"memory-{level}": one for level, one in enumerate(maps)}
    return found


def masked_pixels(network: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised, and a mask that calls all of it image: for a student letterboxed borders are part of it, too."""
    pixels = (images - network.pixel_mean) / network.pixel_std
    return pixels, torch.ones_like(pixels[:, 0])


def _in_its_precision(decoder: Any, inputs: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """DAB-DETR makes the content of its queries in float32, also where its weights are in half precision."""
    return inputs, {**given, "inputs_embeds": given["inputs_embeds"].to(decoder.layernorm.weight.dtype)}


def _options(network: Any) -> dict[str, bool]:
    """DAB-DETR gives its encoder's sequence only where it gives the hidden states of all layers."""
    return {"output_hidden_states": True} if network.config.model_type == "dab-detr" else {}


def _as_maps(network: Any, output: Any, images: Tensor) -> list[Tensor]:
    """Each level of the encoder's sequence (B, N, C) as (B, C, H, W), sent through its module."""
    levels = getattr(network, MAPS, ())
    if not levels:
        return []
    height, width = images.shape[-2:]
    sizes = [(-(-height // level.stride), -(-width // level.stride)) for level in levels]
    found = as_maps(output.encoder_last_hidden_state, sizes)
    return [level(one) for level, one in zip(levels, found, strict=True)]
