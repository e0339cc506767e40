"""What the modules of a network give, found by running it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgekd.detectors.spec import Part, Tap

_SIZE_PX = 64


def shapes_of(
    network: nn.Module, paths: Iterable[str], run: Callable[[Tensor], Any], channels: int, size_px: int = _SIZE_PX
) -> dict[str, list[tuple[int, ...]]]:
    """Path -> the shape of what its module gave at each of its calls, in a pass on grey; no shape: not a tensor.

    Args:
        paths: those of modules that do not exist are left out.
        run: a pass.
        channels: C of the images.
    """
    modules = dict(network.named_modules())  # a shared module stands there once, under its first name
    shapes: dict[str, list[tuple[int, ...]]] = {path: [] for path in paths if path in modules}

    def note(path: str) -> Any:
        return lambda _module, _inputs, output: shapes[path].append(tuple(getattr(output, "shape", ())))

    handles = [modules[path].register_forward_hook(note(path)) for path in shapes]
    training = {part: part.training for part in network.modules()}
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            network.eval()
            run(torch.full((1, channels, size_px, size_px), 0.5, device=device))
    finally:
        for part, was in training.items():
            part.training = was
        for handle in handles:
            handle.remove()
    return shapes


def named_taps(
    network: nn.Module,
    paths: Sequence[str],
    run: Callable[[Tensor], Any],
    channels: int,
    part_of: Callable[[str], Part | None],
    size_px: int = _SIZE_PX,
) -> tuple[Tap, ...]:
    """Taps at modules that a recipe names; of one that all levels share, one per level.

    Paths that do not exist, or whose output is no (B, C, H, W), are left out.

    Args:
        part_of: what of the head must be asked for so that the module of a path runs.
    """
    return tuple(
        Tap("named", path, size_px // shape[2], shape[1], call=call, part=part_of(path))
        for path, calls in shapes_of(network, paths, run, channels, size_px).items()
        for call, shape in enumerate(calls)
        if len(shape) == 4
    )
