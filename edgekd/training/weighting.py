"""`weight: auto`: a method's weight that keeps its part of the loss where the recipe wants it.

    d = slow average of the detection loss,  t = slow average of the method's terms (unweighted)
    weight = share * d / t

With `share_of: gradient`, d and t are the norms of the gradients of both at the student's taps and head outputs, taken
in every tenth step: what moves the student, not what the loss says. RT-DETRv4 (Liao et al. 2025, arXiv 2510.25257)
steers the weight of its distillation by a ratio of gradient norms, too; the averages and the share here are our own.

Averages are exponential, over about a hundred steps, and corrected for their start, so the first step already has the
ratio of its own losses. They are the same on all ranks, and are part of the state that a training is resumed from.
Neither average passes gradients: the weight is a number, not a part of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from edgekd import ranks

DECAY = 0.99
GRADIENT_STEPS = 10  # between two looks at the gradients
_LEAST = 1e-8  # of the terms' average: a method that has nothing left to teach gets no weight without bound


class AutoWeight:
    """The weight of one method.

    Attributes:
        share: the method's weighted terms over the detection loss.
        decay: of the averages, per look.
    """

    def __init__(self, share: float, decay: float = DECAY) -> None:
        self.share, self.decay = share, decay
        self._averages: Tensor | None = None  # detection loss and terms, as sums that decay
        self._mass = 0.0  # what the weights in those sums come to

    @torch.no_grad()
    def of(self, detection: Tensor, terms: Tensor) -> Tensor:
        """The weight in this step, a scalar; all ranks ask together.

        Args:
            detection: this rank's detection loss, not multiplied by the batch size; or the norm of its gradient.
            terms: the sum of the method's terms, unweighted; or the norm of its gradient.
        """
        seen = torch.stack([detection.detach().float().reshape(()), terms.detach().float().reshape(())])
        if ranks.size() > 1:
            dist.all_reduce(seen)
            seen /= ranks.size()
        before = torch.zeros_like(seen) if self._averages is None else self._averages.to(seen.device)
        self._averages = self.decay * before + (1 - self.decay) * seen
        self._mass = self.decay * self._mass + (1 - self.decay)
        return self.latest(seen.device)

    @property
    def is_known(self) -> bool:
        """Whether anything was seen yet."""
        return self._averages is not None

    def latest(self, device: torch.device) -> Tensor:
        """The weight by what was seen so far."""
        assert self._averages is not None
        loss, term = (self._averages.to(device) / self._mass).unbind()
        return self.share * loss / term.clamp_min(_LEAST)

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {"averages": None if self._averages is None else self._averages.tolist(), "mass": self._mass}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        averages = state["averages"]
        self._averages, self._mass = None if averages is None else torch.tensor(averages), state["mass"]


def auto_weight(share: float, share_of: str) -> AutoWeight:
    """Averages over as many steps, however seldom they are looked at."""
    return AutoWeight(share, DECAY if share_of == "loss" else DECAY**GRADIENT_STEPS)


def gradient_norm(value: Tensor, anchors: list[Tensor]) -> Tensor | None:
    """L2 norm of d value / d anchors over all anchors together; None if no anchor is connected to the value.

    Zero is no error: a student that starts from its teacher's weights has nothing to learn in the first step.
    """
    usable = [anchor for anchor in anchors if anchor.requires_grad]
    if not value.requires_grad or not usable:
        return None
    gradients = torch.autograd.grad(value, usable, retain_graph=True, allow_unused=True)
    connected = [gradient.float().square().sum() for gradient in gradients if gradient is not None]
    return torch.stack(connected).sum().sqrt() if connected else None
