"""`weight: auto`: a method's weight that keeps its part of the loss where the recipe wants it.

    d = slow average of the detection loss,  t = slow average of the method's terms (unweighted)
    weight = share * d / t

Averages are exponential with decay 0.99 and corrected for their start, so the first step already has the ratio of its
own losses. They are the same on all ranks, and are part of the state that a training is resumed from. Neither average
passes gradients: the weight is a number, not a part of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from edgekd import ranks

DECAY = 0.99
_LEAST = 1e-8  # of the terms' average: a method that has nothing left to teach gets no weight without bound


class AutoWeight:
    """The weight of one method.

    Attributes:
        share: the method's weighted terms over the detection loss.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._averages: Tensor | None = None  # detection loss and terms, as sums that decay
        self._mass = 0.0  # what the weights in those sums come to

    @torch.no_grad()
    def of(self, detection: Tensor, terms: Tensor) -> Tensor:
        """The weight in this step, a scalar; all ranks ask together.

        Args:
            detection: this rank's detection loss, not multiplied by the batch size.
            terms: the sum of the method's terms, unweighted.
        """
        seen = torch.stack([detection.detach().float().reshape(()), terms.detach().float().reshape(())])
        if ranks.size() > 1:
            dist.all_reduce(seen)
            seen /= ranks.size()
        before = torch.zeros_like(seen) if self._averages is None else self._averages.to(seen.device)
        self._averages = DECAY * before + (1 - DECAY) * seen
        self._mass = DECAY * self._mass + (1 - DECAY)
        loss, term = (self._averages / self._mass).unbind()
        return self.share * loss / term.clamp_min(_LEAST)

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {"averages": None if self._averages is None else self._averages.tolist(), "mass": self._mass}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        averages = state["averages"]
        self._averages, self._mass = None if averages is None else torch.tensor(averages), state["mass"]
