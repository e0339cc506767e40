"""Logits whose sigmoid is the score."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from edgekd.detectors.log_odds import log_odds


def test_log_odds_of_a_softmax_give_its_scores() -> None:
    logits = torch.tensor([[0.0, 1.0, -2.0], [30.0, -30.0, 0.0], [1e3, 0.0, 0.0]])
    found = log_odds(F.log_softmax(logits, -1))
    torch.testing.assert_close(found.sigmoid(), logits.softmax(-1), atol=2e-7, rtol=1e-5)
    assert torch.isfinite(found).all()
    by_hand = logits[0, 1] - torch.log(torch.exp(logits[0, 0]) + torch.exp(logits[0, 2]))
    torch.testing.assert_close(found[0, 1], by_hand)


def test_log_odds_keep_what_is_far_below_float32s_one() -> None:
    assert log_odds(torch.tensor(-80.0)).item() == -80.0
    assert 15.9 < log_odds(torch.tensor(0.0)).item() < 16.2
