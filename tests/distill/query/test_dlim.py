"""DLIM-Det by hand: boxes and relations of matched queries."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.parts import Attention
from edgekd.distill.matching import Matches
from edgekd.distill.query.dlim import relation_loss

from ..helpers import build, terms
from .fakes import BOXES, LOGITS, one_object, output, predictions, query_spec

LOOKS = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]])


def test_the_same_queries_in_another_order_cost_nothing() -> None:
    method = build("dlim", query_spec("s"), query_spec("t"))
    order = torch.tensor([2, 0, 1])
    own = LOOKS[:, order][:, :, order]
    student = predictions(LOGITS[:, order], BOXES[:, order], looks={Attention("self", 0): own})
    teacher = predictions(LOGITS, BOXES, looks={Attention("self", 0): LOOKS})
    found = terms(method, output(student), output(teacher), one_object())
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in found.values())


def test_relation_by_hand() -> None:
    """Two pairs crossed: |0.5 - 0.8| + |0.3 - 0.1| + |0.1 - 0.3| + |0.8 - 0.5|, by two pairs; the third has none."""
    crossed = Matches(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert float(relation_loss(LOOKS, LOOKS, crossed)) == pytest.approx((0.3 + 0.2 + 0.2 + 0.3) / 2, rel=1e-5)


def test_prediction_by_hand() -> None:
    """A box 4 of 100 px further right, of three: 2 * (5 * 0.04 + 2 * (1 - 36 / 44)) / 3."""
    method = build("dlim", query_spec("s"), query_spec("t"))
    moved = BOXES + torch.tensor([4.0, 0, 4, 0]) * torch.tensor([0.0, 1, 0])[:, None]
    student = predictions(LOGITS + 0.1, moved, looks={Attention("self", 0): LOOKS})
    teacher = predictions(LOGITS, BOXES, looks={Attention("self", 0): LOOKS})
    found = terms(method, output(student), output(teacher), one_object())
    assert float(found["prediction"]) == pytest.approx(2 * (0.2 + 2 * (1 - 36 / 44)) / 3, rel=1e-4)
    assert float(found["relation"]) == pytest.approx(0, abs=1e-6)


def test_some_of_the_teachers_queries_are_drawn() -> None:
    """One of three, whose row and column alone are compared; others in other steps."""
    method = build("dlim", query_spec("s"), query_spec("t"), matched=1)
    student = predictions(LOGITS, BOXES, looks={Attention("self", 0): torch.zeros(1, 3, 3)})
    teacher = predictions(LOGITS, BOXES, looks={Attention("self", 0): LOOKS})
    found = terms(method, output(student), output(teacher), one_object())
    assert float(found["relation"]) == pytest.approx(float(found["relation"]))
    assert min(abs(float(found["relation"]) - value) for value in (0.5, 0.8, 0.6)) < 1e-5
