"""Weights that are known by several names, as heads of RTMDet and of DETRs share them.

The engine goes by names: it would step such a weight as often as modules have it, and average it once for each name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from edgekd.training.engines.protocol import Average
from edgekd.training.engines.shell import student_of


def stepped_once(build: Callable[[], Optimizer]) -> Optimizer:
    """What `build` makes, with each weight once in its group."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "optimizer contains a parameter group with duplicate parameters")
        optimizer = build()
    for group in optimizer.param_groups:
        group["params"] = list(dict.fromkeys(group["params"]))
    return optimizer


def averaged_once(average: Average) -> None:
    """Let an average take in each weight once in an update; that of a network without such weights is the engine's."""
    named = [id(tensor) for tensor in student_of(average.ema).state_dict(keep_vars=True).values()]
    if len(set(named)) < len(named):
        average.update = lambda model: _update(average, model)


@torch.no_grad()
def _update(average: Average, model: nn.Module) -> None:
    average.updates += 1
    share = 1 - average.decay(average.updates)
    for ours, theirs in _pairs(student_of(average.ema), student_of(model)):
        ours.lerp_(theirs, share)


def _pairs(average: nn.Module, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Each floating-point tensor of the average, once, and the model's."""
    current, seen = dict[str, Any](model.state_dict(keep_vars=True)), set[int]()
    for name, ours in average.state_dict(keep_vars=True).items():
        if ours.is_floating_point() and id(ours) not in seen:
            seen.add(id(ours))
            yield ours, current[name]
