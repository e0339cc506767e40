"""DETRDistill by hand, each part for itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from edgekd.detectors.queries import Decoder, QueryPredictions, States
from edgekd.distill.query.detrdistill import look_mask, masked_distance
from edgekd.distill.query.set_loss import focal_loss

from ..helpers import build, terms
from .fakes import BOXES, LOGITS, one_object, output, predictions, query_spec

PREDICTION = {"features": 0, "queries": 0}


def test_the_same_predictions_in_another_order_cost_nothing() -> None:
    method = build("detrdistill", query_spec("s"), query_spec("t"), **PREDICTION)
    order = torch.tensor([2, 0, 1])
    found = terms(
        method, output(predictions(LOGITS[:, order], BOXES[:, order])), output(predictions(LOGITS, BOXES)), one_object()
    )
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in found.values())


def test_prediction_by_hand() -> None:
    """One of three boxes is 4 of 100 px further right: 5 * 0.04 / 3; its IoU is 36 / 44: 2 * (1 - 36 / 44) / 3."""
    method = build("detrdistill", query_spec("s"), query_spec("t"), **PREDICTION)
    moved = BOXES + torch.tensor([4.0, 0, 4, 0]) * torch.tensor([0.0, 1, 0])[:, None]
    order = torch.tensor([1, 2, 0])
    found = terms(
        method, output(predictions(LOGITS[:, order], moved[:, order])), output(predictions(LOGITS, BOXES)), one_object()
    )
    assert float(found["class"]) == pytest.approx(0, abs=1e-6)
    assert float(found["l1"]) == pytest.approx(5 * 0.04 / 3, rel=1e-4)
    assert float(found["giou"]) == pytest.approx(2 * (1 - 36 / 44) / 3, rel=1e-4)


def test_the_best_queries_alone_are_matched() -> None:
    """Of the teacher's three the best, score 0.88: the student's others are free."""
    method = build("detrdistill", query_spec("s"), query_spec("t"), matched=1, **PREDICTION)
    other = LOGITS.clone()
    other[:, 1:] = 5.0
    found = terms(method, output(predictions(other, BOXES)), output(predictions(LOGITS, BOXES)), one_object())
    assert all(float(value) == pytest.approx(0, abs=1e-5) for value in found.values())


def test_mask_by_hand() -> None:
    """A query along the first axis, weight 0.5, and one without weight: cosines 1, 0.6 and -1 become 1, 0.6, 0.02."""
    memory = torch.tensor([[[[2.0, 3.0, -1.0]], [[0.0, 4.0, 0.0]]]])
    queries = torch.tensor([[[7.0, 0.0], [0.0, 1.0]]])
    found = look_mask(memory, queries, torch.tensor([[0.5, 0.0]]))
    assert found.flatten().tolist() == pytest.approx([1.0, 0.6, 0.02], rel=1e-5)
    assert float(look_mask(memory, queries, torch.zeros(1, 2)).sum()) == 0, "of an image without objects"


def test_distance_by_hand() -> None:
    """(0.5 * 2)^2 and (1 * 1)^2 of four numbers, two of which are equal."""
    teacher = torch.tensor([[[[2.0, 1.0]], [[3.0, 3.0]]]])
    student = torch.tensor([[[[0.0, 0.0]], [[3.0, 3.0]]]])
    assert float(masked_distance(student, teacher, torch.tensor([[[[0.5, 1.0]]]]))) == pytest.approx(0.5)


def test_features_are_weighed_by_what_overlaps_an_object() -> None:
    """The second query alone has its object; where the memory is like its embedding, differences count."""
    method = build("detrdistill", query_spec("s", width=2), query_spec("t", width=2), prediction=0, queries=0)
    memory = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    embeddings = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
    states = States(embeddings, embeddings[None], torch.zeros(1, 1, 3, 4))
    teacher = predictions(LOGITS, BOXES, maps=(memory,), states=states)
    for cell, expected in ((0, 4.0 / 4), (1, 4.0 * (0.01 / 0.7310586) ** 2 / 4)):
        ours = memory.clone()
        ours[0, 0, 0, cell] += 2.0
        found = terms(method, output(predictions(LOGITS, BOXES, maps=(ours,))), output(teacher), one_object())
        assert list(found) == ["features"]
        assert float(found["features"]) == pytest.approx(expected, rel=1e-3)


def test_queries_by_hand() -> None:
    """The teacher's second query has the object: the student's answer to it must be class 1 and the box."""
    method = build("detrdistill", query_spec("s"), query_spec("t"), prediction=0, features=0)
    content, references = torch.randn(1, 3, 4), torch.rand(1, 1, 3, 4)
    asked: list[tuple[Tensor, Tensor]] = []

    def run(given: Tensor, boxes: Tensor, _parts: object) -> QueryPredictions:
        asked.append((given, boxes))
        return predictions(torch.zeros(1, 3, 3), BOXES + torch.tensor([10.0, 0, 10, 0]))

    student = predictions(LOGITS, BOXES, asked=Decoder(4, run, lambda boxes: boxes))
    teacher = predictions(LOGITS, BOXES, states=States(content, content[None], references))
    found = terms(method, output(student), output(teacher), one_object())
    assert torch.equal(asked[0][0], content)
    assert torch.equal(asked[0][1], references[0])
    focal = math.log(2) * 0.25 * (0.25 + 8 * 0.75)  # one positive, eight negatives at p = 1/2
    boxes = 5 * 0.1 + 2 * (1 - 30 / 50)
    assert float(found["queries"]) == pytest.approx(2 * focal + boxes, rel=1e-4)


def test_focal_loss_is_torchvisions() -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = torch.randn(5, 3), (torch.rand(5, 3) > 0.5).float()
    torch.testing.assert_close(focal_loss(logits, targets), sigmoid_focal_loss(logits, targets, 0.25, 2.0))


def test_classes_that_the_teacher_does_not_know_are_not_taught() -> None:
    """The labels' class 1 among them: neither its object nor its absence; class 0 and 2 are background everywhere."""
    teacher_of = replace(query_spec("t"), class_names=("three", "one"))
    method = build("detrdistill", query_spec("s"), teacher_of, prediction=0, features=0)
    content, references = torch.randn(1, 3, 4), torch.rand(1, 1, 3, 4)
    teacher = predictions(LOGITS, BOXES, states=States(content, content[None], references))
    for unknown in (0.0, 5.0):
        logits = torch.zeros(1, 3, 3)
        logits[..., 1] = unknown

        def run(_given: Tensor, _boxes: Tensor, _parts: object, logits: Tensor = logits) -> QueryPredictions:
            return predictions(logits, BOXES)

        student = predictions(LOGITS, BOXES, asked=Decoder(4, run, lambda boxes: boxes))
        found = terms(method, output(student), output(teacher), one_object())
        assert float(found["queries"]) == pytest.approx(2 * math.log(2) * 0.75 * 0.25 * 6, rel=1e-4)
