"""What a method trains of its own before any student: of the teacher alone, once, and frozen ever after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch
from edgekd.distill.frozen import Frozen

Absorb: TypeAlias = Callable[[Mapping[str, Tensor], Batch, torch.Generator], dict[str, Tensor]]


class Prepared(Frozen):
    """A module of the method's own as its preparation left it, which the student's gradients pass.

    Attributes:
        trainable: the module that a preparation trains; a student's training never touches it.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor] | None) -> None:
        """`weights`: what the preparation left; None before it."""
        if weights is not None:
            module.load_state_dict(dict(weights))
        self.trainable = module
        super().__init__(module)

    def __call__(self, value: Tensor, *others: Any) -> Any:
        """Run it where its first input is; gradients flow to the inputs."""
        self._module.to(value.device)
        return super().__call__(value, *others)


@dataclass(frozen=True)
class Preparation:
    """A training before that of any student.

    Attributes:
        module: `Prepared.trainable`.
        loss: (knowledge, batch, generator) -> scalar terms by name, of `module`; their sum is trained. The generator is
            the method's own, as `Moment.generator`.
        train: arguments of the engine, laid over the recipe's: epochs, optimizer, lr0 ...
        depends_on: keys of the config that decide what comes out, beside teacher and data; others may change without a
            preparation being done again.
    """

    module: nn.Module
    loss: Absorb
    train: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
