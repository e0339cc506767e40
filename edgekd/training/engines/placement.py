"""Which device a process trains and validates on."""

from __future__ import annotations

from typing import Any

from edgekd import ranks
from edgekd.errors import EnvironmentFault, InputError

_OTHERS = ("cpu", "mps", "npu", "xpu")  # what the engine trains on beside CUDA


def engine_device(asked: Any) -> Any:
    """The engine's `device` argument for this process.

    Args:
        asked: the recipe's `train.device`.

    Raises:
        EnvironmentFault: this machine has fewer GPUs than processes.
    """
    if ranks.size() == 1 or asked == "cpu":
        return asked
    import torch

    count, own = torch.cuda.device_count(), ranks.world().local_rank
    if count == 0:
        return "cpu"
    if count == 1 and own > 0:  # SLURM may show each task its own GPU only, always as number 0
        own = 0
    if own >= count:
        raise EnvironmentFault(
            f"train.gpus_per_node: process {ranks.rank()} is number {own} on its machine, which has {count} GPUs"
        )
    return str(own)


def torch_device(asked: Any) -> Any:
    """The same as a `torch.device`: what validation in torch runs on.

    Raises:
        InputError: it is none, or not on this machine.
        EnvironmentFault: this machine has fewer GPUs than processes.
    """
    import torch

    from edgekd.detectors.ultralytics.guard import guard

    guard()
    from ultralytics.utils.torch_utils import parse_device

    name = parse_device(engine_device(asked))
    if name and not name.isdigit() and not name.startswith(_OTHERS):
        raise InputError(f"train.device: got {asked!r}; write cpu, or the number of a GPU: 0 is the first one")
    if name in ("", "cpu") or not name.isdigit():  # on others than CUDA's, validation stays on the CPU
        return torch.device("cuda" if name == "" and torch.cuda.is_available() else "cpu")
    count = torch.cuda.device_count()
    if int(name) >= count:
        there = f"torch sees {count} here (0 to {count - 1}); write one of these, or cpu"
        none = "torch sees no GPU here; write 'device: cpu', or leave it out to take what there is"
        raise InputError(f"train.device: got {asked!r}, but {there if count else none}")
    return torch.device("cuda", int(name))
