"""Logits whose sigmoid is a given score, for heads whose scores are no sigmoid of one number each.

A softmax over columns changes where columns are left out or put in another order; log(p / (1 - p)) of each score p does
not, and a loss that takes the sigmoid of a teacher's logits is right for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NEAREST_TO_ONE = -1e-7  # the largest logarithm of a score: its logit is about 16


def log_odds(log_scores: Tensor) -> Tensor:
    """The logits whose sigmoid has these logarithms; finite also for a score of one."""
    below_one = log_scores.clamp_max(_NEAREST_TO_ONE)
    return below_one - torch.log(-torch.expm1(below_one))
