"""Activation checkpointing: less memory for more time.

A training forward keeps what enters each of the student's layers (`Trainable.layers`), and computes the rest anew in
the backward pass: the same losses, gradients and batch-norm statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from edgekd.training.engines.trainer import StudentTrainer


def install(trainer: StudentTrainer) -> None:
    """Switch it on for the batches that the engine's trainer trains; its EMA and its checkpoints never meet it."""
    switch = Checkpointing()
    trainer.add_callback("on_train_batch_start", lambda _: switch.on(trainer.student.layers()))
    trainer.add_callback("on_train_batch_end", lambda _: switch.off())


@contextmanager
def checkpointed(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Checkpoint the forward passes of layers in training mode during the block, and their backward passes."""
    switch = Checkpointing()
    switch.on(layers)
    try:
        yield
    finally:
        switch.off()


class Checkpointing:
    """Replaces the layers' `forward` while it is on, and leaves no trace on them once it is off."""

    def __init__(self) -> None:
        self._layers: list[nn.Module] = []

    def on(self, layers: Iterable[nn.Module]) -> None:
        """Each layer is run under a checkpoint."""
        self.off()
        self._layers = list(layers)
        for layer in self._layers:
            layer.forward = partial(_run, layer, layer.forward)

    def off(self) -> None:
        """The layers are what they were. A backward pass that is still to come does not need it on."""
        for layer in self._layers:
            del layer.forward  # the instance's attribute; its class has the original
        self._layers = []


def _run(layer: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not layer.training:
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=partial(_contexts, layer), **kwargs)


def _contexts(layer: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first pass and around the second, which must not be counted by batch norms."""
    return nullcontext(), StatisticsKept(layer)


class StatisticsKept(AbstractContextManager[None]):
    """Batch norms normalise as in the first pass and remember nothing: momentum 0, no counter.

    May be entered again and again: the first steps have several backward passes.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._norms = [part for part in layer.modules() if isinstance(part, _BatchNorm)]
        self._kept: list[tuple[float | None, Any]] = []

    def __enter__(self) -> None:
        self._kept = [(norm.momentum, norm.num_batches_tracked) for norm in self._norms]
        for norm in self._norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, count) in zip(self._norms, self._kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
