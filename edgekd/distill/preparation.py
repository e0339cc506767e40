"""What a method trains of its own before any student: of the teacher alone, once, and frozen ever after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.distill.frozen import Frozen

Absorb: TypeAlias = Callable[[Mapping[str, Tensor], Batch, torch.Generator], dict[str, Tensor]]
Schedule: TypeAlias = Callable[[float, int, float], float]
Detections: TypeAlias = Callable[[DetectorOutput, Tensor], tuple[Tensor, Tensor]]
Module = TypeVar("Module", bound=nn.Module)


class Prepared(Frozen, Generic[Module]):
    """A module of the method's own as its preparation left it, which the student's gradients pass.

    Attributes:
        trainable: the module that a preparation trains; a student's training never touches it.
    """

    def __init__(self, module: Module, weights: Mapping[str, Tensor] | None) -> None:
        """`weights`: what the preparation left; None before it."""
        if weights is not None:
            module.load_state_dict(dict(weights))
        self.trainable = module
        super().__init__(module)

    def on(self, device: torch.device) -> Module:
        """The frozen module there, for a method of its own to be called."""
        module: Any = self._module.to(device)
        return cast(Module, module)

    def __call__(self, value: Tensor, *others: Any) -> Any:
        """Run it where its first input is; gradients flow to the inputs."""
        self.on(value.device)
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
        knowledge: (teacher's output, batch) -> what `loss` sees of the teacher; None: the method's own `knowledge`.
        schedule: of the learning rate, see `TrainingStyle.schedule`; None: the engine's.
        detections: (teacher's output, images (B, C, H, W)) -> boxes (B, N, 4) x1 y1 x2 y2 px and scores (B, N, K) in
            classes of the data, of the frozen module: by their AP it is told how much was learned. None: it detects
            nothing.
    """

    module: nn.Module
    loss: Absorb
    train: Mapping[str, Any] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    knowledge: Callable[[DetectorOutput, Batch], Mapping[str, Tensor]] | None = None
    schedule: Schedule | None = None
    detections: Detections | None = None
