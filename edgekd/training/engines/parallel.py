"""What several processes add to the engine's training: gradients, the decision for AMP, and losses in common.

The engine has all of this for GPUs that it numbers and starts itself. Here the processes exist already, on one machine
or several, on GPUs or on a CPU, so it is kept from its own way until the model is built, and done once for all of them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from edgekd import ranks
from edgekd.detectors.ultralytics.guard import guard
from edgekd.training.engines.protocol import EngineTrainer, EngineValidator

guard()

from ultralytics.utils.torch_utils import TORCH_2_13  # noqa: E402


def synchronised(model: nn.Module, compiled: bool) -> nn.Module:
    """The model with gradients averaged over ranks, and the weights of rank 0. Options are the engine's.

    Without `device_ids`, which fit GPUs alone, a model stays where it is, and batches come as they are.
    """
    no_buffers: dict[str, Any] = {"forward_sync_buffers" if TORCH_2_13 else "broadcast_buffers": False}
    return DistributedDataParallel(model, find_unused_parameters=not compiled, static_graph=compiled, **no_buffers)


def agree_on_amp(trainer: EngineTrainer) -> None:
    """Rank 0 has tried AMP; all do as it found."""
    amp = ranks.broadcast(bool(trainer.amp))
    if amp != trainer.amp:
        trainer.amp = amp
        trainer.scaler = torch.amp.GradScaler("cuda", enabled=amp and trainer.args.amp != "bf16")


def share_averages(ema: nn.Module) -> None:
    """Before a validation: all ranks judge rank 0's model. Weights are equal anyway, batch norm statistics are not."""
    for buffer in ema.buffers():
        dist.broadcast(buffer, src=0)


def gather_losses(validator: EngineValidator) -> None:
    """From now on the engine's validator gathers losses of all ranks along with what it gathers itself."""
    gather = validator.gather_stats

    def gather_all() -> None:
        gather()
        if validator.training:
            average_losses(validator)

    validator.gather_stats = gather_all


def average_losses(validator: EngineValidator) -> None:
    """Losses of the whole validation split on every rank, so that the engine finds their mean on rank 0.

    It divides a sum by the number of rank 0's batches, which may be one more than another rank's.
    """
    own = len(validator.dataloader)
    sums = torch.stack([*(value.double().reshape(()) for value in validator.loss.values()), torch.tensor(
        float(own), dtype=torch.float64, device=validator.device
    )])  # fmt: skip
    dist.all_reduce(sums)
    for index, (name, value) in enumerate(validator.loss.items()):
        validator.loss[name] = (sums[index] * own / sums[-1]).to(value.dtype)
