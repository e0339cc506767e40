"""How a family's students are trained where that is not the training engine's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingStyle:
    """Habits of a family; None leaves one to the engine. What is a key of `train:` is a default of the family instead.

    Attributes:
        schedule: (epoch, epochs, lrf) -> factor on `lr0`, after the warm-up; `lrf` is the recipe's last factor.
        ema_decay: of the average that is validated and kept, once it has run in.
        defaults: (the recipe's `train:`, the family's defaults laid under it) -> further defaults, which depend on it.
        version: of how edgekd trains the family's students; what was trained by another one is trained again.
    """

    schedule: Callable[[float, int, float], float] | None = None
    ema_decay: float | None = None
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    version: int = 1


THE_ENGINES = TrainingStyle()
_BATCH = 16  # the engine's default


def a_step_each_batch(train: Mapping[str, Any]) -> dict[str, Any]:
    """`nbs` is the batch: the engine adds up batches to `nbs` images, and scales the weight decay by what is over."""
    batch = train.get("batch", _BATCH)
    return {"nbs": batch} if isinstance(batch, int) else {}
