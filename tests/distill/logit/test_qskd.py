"""QSKD by hand: which queries are kept, and what they weigh."""

from __future__ import annotations

import pytest
import torch

from edgekd.detectors.parts import Attention
from edgekd.detectors.queries import CrossAttention
from edgekd.distill.logit.qskd import attended_distance

from ..helpers import build, empty_batch, terms
from ..query.fakes import one_object, output, predictions, query_spec

# of an object (0, 0, 40, 40): equal; half of it, sure; half of it, unsure; beside it; far away and sure
BOXES = torch.tensor([[[0.0, 0, 40, 40], [0, 0, 40, 20], [0, 20, 40, 40], [40, 0, 60, 40], [60, 60, 99, 99]]])
LOGITS = torch.tensor([-9.0, 1.0, -9.0, 1.0, 9.0])[None, :, None] * torch.ones(3)


def test_who_is_kept() -> None:
    """GIoU 1, 0.5 with a score, 0.5 without, 0 with a score, and below 0 with a score."""
    method = build("qskd", query_spec("s"), query_spec("t"), features=0)
    kept = method.knowledge(output(predictions(LOGITS, BOXES)), one_object())["kept"]
    assert kept.tolist() == [[True, True, False, True, False]]
    far = build("qskd", query_spec("s"), query_spec("t"), features=0, hard_giou=-1.0)
    assert far.knowledge(output(predictions(LOGITS, BOXES)), one_object())["kept"].tolist()[0] == [1, 1, 0, 1, 1]
    none = method.knowledge(output(predictions(LOGITS, BOXES)), empty_batch(1, 100))["kept"]
    assert not none.any()


def test_predictions_of_others_are_free() -> None:
    """The student misses the two that are not kept, and pays nothing; one of the three others is 10 px off."""
    method = build("qskd", query_spec("s"), query_spec("t"), features=0)
    ours = BOXES.clone()
    ours[0, 2], ours[0, 4] = torch.tensor([90.0, 0, 95, 5]), torch.tensor([0.0, 90, 5, 95])
    ours[0, 3] += torch.tensor([10.0, 0, 10, 0])
    found = terms(method, output(predictions(LOGITS, ours)), output(predictions(LOGITS, BOXES)), one_object())
    assert float(found["class"]) == pytest.approx(0, abs=1e-4)
    assert float(found["l1"]) == pytest.approx(5 * 0.1 / 3, rel=1e-3)


def test_features_where_kept_queries_look() -> None:
    """The first query looks at the second cell alone; there the square is 4, a mean over two channels: 2."""
    method = build("qskd", query_spec("s", width=2), query_spec("t", width=2), prediction=0)
    weights = torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])[None]
    look = CrossAttention(weights, None, torch.tensor([0, 0]), ((1, 2),))
    memory = torch.zeros(1, 2, 1, 2)
    ours = torch.tensor([[[[7.0, 2.0]], [[7.0, 0.0]]]])
    teacher = predictions(LOGITS, BOXES, maps=(memory,), looks={Attention("cross", 0): look})
    found = terms(method, output(predictions(LOGITS, BOXES, maps=(ours,))), output(teacher), one_object())
    assert list(found) == ["features"]
    assert float(found["features"]) == pytest.approx(2.0, rel=1e-4)


def test_attended_distance_by_hand() -> None:
    """Cells with attention 3 and 1 and squares 1 and 9: (3 + 9) / 4; without any attention nothing."""
    student, teacher = torch.tensor([[[[1.0, 3.0]]]]), torch.zeros(1, 1, 1, 2)
    assert float(attended_distance(student, teacher, torch.tensor([[[[3.0, 1.0]]]]))) == pytest.approx(3.0)
    assert float(attended_distance(student, teacher, torch.zeros(1, 1, 1, 2))) == 0
