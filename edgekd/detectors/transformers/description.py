"""What a detector of transformers is, found by running it once: its spec and its taps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.parts import QueryPart
from edgekd.detectors.probing import named_taps
from edgekd.detectors.spec import Part, QueryHead, Role, Spec, Tap
from edgekd.detectors.transformers import detr
from edgekd.detectors.transformers.inside import can_be_watched
from edgekd.detectors.transformers.network import MAPS, first_convolution, predict, trunk, with_maps

_PROBE_PX = 320  # at least: every query is a cell of the maps, and 300 queries want as many cells
_LEAST = 32  # a smaller side has no map at the backbone's end


class NoPyramid(ValueError):
    """Why a network cannot teach: it has no map."""


def describe(network: Any, name: str, class_names: tuple[str, ...]) -> Spec:
    """The spec of a network, which gets modules for its encoder's levels if it has none yet.

    Raises:
        NoPyramid: neither its backbone nor its neck gives a map.
    """
    multiple = size_multiple(network)
    taps = _taps(network, multiple)
    return Spec(
        family="transformers",
        name=name,
        class_names=class_names,
        input_channels=first_convolution(network).in_channels,
        size_multiple=math.lcm(multiple, *(tap.stride for tap in taps)),
        taps=taps,
        head=_head(network, tuple(tap.stride for tap in taps if tap.role == "neck")),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )


def chooses(config: Any) -> bool:
    """Whether the queries are the best of all places of the maps, which must then be at least as many."""
    return (
        hasattr(config, "group_detr") or hasattr(config, "learn_initial_query") or getattr(config, "two_stage", False)
    )


def _head(network: Any, strides: tuple[int, ...]) -> QueryHead:
    config = network.config
    gives: tuple[QueryPart, ...] = ("class_logits", "boxes")
    if can_be_watched(network) and len(strides) == config.num_feature_levels:
        gives = (*gives, "layers", "embeddings", "memory", "decoder", "self_attention", "cross_attention")
        gives = (*gives, "reference_boxes")
        gives = (*gives, "class_embedding", "denoising") if config.num_denoising > 0 else gives
    elif detr.has_inside(network):
        gives = (*gives, *detr.gives(network))
    elif hasattr(network, MAPS):
        gives = (*gives, "memory")
    return QueryHead(
        layers=config.decoder_layers,
        queries=_queries(config),
        width=getattr(config, "d_model", None) or config.hidden_size,
        bins=config.max_num_bins + 1 if hasattr(config, "max_num_bins") else 1,
        strides=strides if "memory" in gives else (),
        gives=gives,
    )


def _queries(config: Any) -> int:
    if getattr(config, "two_stage", False):
        return int(config.two_stage_num_proposals)
    patterns = getattr(config, "num_patterns", 0) or 1  # of DAB-DETR, each with each anchor
    return int(config.num_queries) * patterns


def size_multiple(network: Any) -> int:
    """Of sides, so that the network runs: 32, or whole windows of patches where a transformer is the backbone."""
    backbone = getattr(network.config, "backbone_config", None)
    patch = getattr(backbone, "patch_size", None)
    if not isinstance(patch, int):
        return _LEAST
    return patch * int(getattr(backbone, "num_windows_side", None) or getattr(backbone, "num_windows", None) or 1)


def taps_at(network: Any, multiple: int, paths: Sequence[str], softmax: bool) -> tuple[Tap, ...]:
    """See `named_taps`; modules of the decoder and behind it run when something of the head is asked for."""
    channels = first_convolution(network).in_channels

    def run(images: Tensor) -> None:
        trunk(network, images)  # what this runs is called here for the first time
        predict(network, softmax, (0,), images)

    side = _probe_px(multiple)
    before = set(_called(network, torch.full((1, channels, side, side), 0.5), trunk))

    def part_of(path: str) -> Part | None:
        return None if path in before else "class_logits"

    found = named_taps(network, paths, run, channels, part_of, side)
    calls = {tap.path: sum(one.path == tap.path for one in found) for tap in found}
    return tuple(tap for tap in found if tap.part or tap.call < calls[tap.path] // 2)


def _probe_px(multiple: int) -> int:
    return multiple * -(-_PROBE_PX // multiple)


def _called(network: Any, images: Tensor, run: Callable[[Any, Tensor], Any]) -> dict[str, list[Any]]:
    """Path -> what its module gave at each of its calls in a pass."""
    given: dict[str, list[Any]] = {}

    def note(path: str) -> Any:
        return lambda _module, _inputs, output: given.setdefault(path, []).append(output)

    handles = [part.register_forward_hook(note(path)) for path, part in network.named_modules() if path]
    try:
        with torch.no_grad():
            run(network, images)
    finally:
        for handle in handles:
            handle.remove()
    return given


def _taps(network: Any, multiple: int) -> tuple[Tap, ...]:
    """The maps that the backbone gives, and those that the decoder reads: of a neck, or of the encoder's sequence."""
    side = _probe_px(multiple)
    images = torch.full((1, first_convolution(network).in_channels, side, side), 0.5)
    given = _called(network, images, trunk)
    outer = "model.conv_encoder" if hasattr(network.model, "conv_encoder") else "model.backbone"
    inners = (f"{outer}.model", f"{outer}.conv_encoder.model", f"{outer}.backbone", outer)
    inner = next(path for path in inners if path in given)
    backbone = _makers(given, inner, _maps(given[inner][0]))
    memory = given["model.encoder"][0] if "model.encoder" in given else None
    sequence = getattr(memory, "last_hidden_state", None)
    if memory is None:
        neck = _makers(given, outer, _maps(given[outer][0]))
    elif isinstance(sequence, Tensor) and sequence.dim() == 3:
        neck = _sequence(network, sequence, [side // one.shape[2] for one in _maps(given[outer][0])], side)
    else:
        neck = _makers(given, "model.encoder", _maps(memory))
    if not neck:
        raise NoPyramid("gives no map that its decoder reads")
    found: list[tuple[Role, dict[str, Tensor]]] = [("backbone", backbone), ("neck", neck)]
    taps = [
        Tap(role, path, side // one.shape[2], one.shape[1])
        for role, maps in found
        for path, one in maps.items()
        if role == "neck" or path not in neck
    ]
    return tuple(sorted(taps, key=lambda tap: (tap.role, tap.stride)))


def _sequence(network: nn.Module, sequence: Tensor, strides: list[int], side: int) -> dict[str, Tensor]:
    """Levels of an encoder's sequence, whose modules the network gets; further levels have twice the last stride."""
    levels = int(getattr(network.config, "num_feature_levels", 1))
    strides = strides[-1:] if levels == 1 else strides
    while len(strides) < levels:
        strides.append(2 * strides[-1])
    sides = [-(-side // stride) for stride in strides]
    if sum(one * one for one in sides) != sequence.shape[1]:
        raise NoPyramid(f"has an encoder whose {sequence.shape[1]} places are no levels of strides {strides}")
    with_maps(network, strides)
    channels = sequence.shape[2]
    return {f"{MAPS}.{index}": sequence.new_empty(1, channels, one, one) for index, one in enumerate(sides)}


def _makers(given: dict[str, list[Any]], inside: str, maps: Sequence[Tensor]) -> dict[str, Tensor]:
    """The outermost module within `inside` that gave each map, by path; maps that no module gave are left out."""
    found: dict[str, Tensor] = {}
    for one in maps:
        paths = [
            path
            for path, calls in given.items()
            if path.startswith(f"{inside}.") and len(calls) == 1 and calls[0] is one
        ]
        if paths:
            found[min(paths, key=lambda path: path.count("."))] = one
    return found


def _maps(output: Any) -> list[Tensor]:
    """The maps (B, C, H, W) in what a module gave: alone, in a list, beside a mask, or in the library's object."""
    if isinstance(output, Tensor):
        return [output] if output.dim() == 4 else []
    for name in ("feature_maps", "last_hidden_state"):
        if getattr(output, name, None) is not None:
            return _maps(getattr(output, name))
    return [one for part in output for one in _maps(part)] if isinstance(output, (list, tuple)) else []
