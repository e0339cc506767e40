"""How a family's students are trained where that is not the training engine's way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingStyle:
    """Habits of a family; None leaves one to the engine. What is a key of `train:` is a default of the family instead.

    Attributes:
        schedule: (epoch, epochs, lrf) -> factor on `lr0`, after the warm-up; `lrf` is the recipe's last factor.
        ema_decay: of the average that is validated and kept, once it has run in.
    """

    schedule: Callable[[float, int, float], float] | None = None
    ema_decay: float | None = None


THE_ENGINES = TrainingStyle()
