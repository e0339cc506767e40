"""CLoCKDistill by hand: memory by place, and the queries made of labels."""

from __future__ import annotations

import math

import pytest
import torch

from edgekd.detectors.outputs import Batch
from edgekd.detectors.queries import Decoder, QueryPredictions
from edgekd.distill.feature.clockdistill import located_distance

from ..helpers import boxes_of, build, empty_batch, terms
from ..query.fakes import BOXES, LOGITS, output, predictions, query_spec
from ..query.test_kd_detr import Oracle

EMBEDDING = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])


def sides(batch: int) -> tuple[QueryPredictions, Oracle, QueryPredictions, Oracle]:
    ours = Oracle(torch.zeros(3), torch.tensor([10.0, 0, 50, 40]))
    theirs = Oracle(torch.tensor([0.0, math.log(3), 0.0]), torch.tensor([0.0, 0, 40, 40]))
    asked = Decoder(4, theirs.decoder.run, theirs.decoder.own_content, EMBEDDING)
    logits, boxes = LOGITS.repeat(batch, 1, 1), BOXES.repeat(batch, 1, 1)
    return predictions(logits, boxes, asked=ours.decoder), ours, predictions(logits, boxes, asked=asked), theirs


def labels() -> Batch:
    """Two images of 100 px: with two objects of classes 1 and 2, and with one of class 0."""
    return Batch(
        torch.zeros(2, 3, 100, 100),
        torch.tensor([0, 0, 1]),
        torch.tensor([1, 2, 0]),
        torch.tensor([[0.0, 0, 40, 40], [50, 50, 100, 90], [20, 20, 40, 60]]),
    )


def test_queries_are_made_of_the_labels() -> None:
    """Both sides have the same ones; the image with fewer repeats its own, without weight."""
    method = build("clockdistill", query_spec("s"), query_spec("t"), memory=0)
    student, ours, teacher, theirs = sides(2)
    given = labels()
    knowledge = method.knowledge(output(teacher), given)
    assert knowledge["valid"].tolist() == [[True, True], [True, False]]
    (content, boxes) = theirs.asked[0]
    assert boxes[0].flatten().tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.75, 0.7, 0.5, 0.4])
    assert boxes[1].flatten().tolist() == pytest.approx([0.3, 0.4, 0.2, 0.4] * 2)
    assert torch.equal(content, EMBEDDING[torch.tensor([[1, 2], [0, 0]])])
    terms(method, output(student), output(teacher), given)
    assert torch.equal(ours.asked[0][1], boxes)


def test_answers_by_hand() -> None:
    """All alike: 3/4 against 1/2 for one class, boxes 10 of 100 px apart with IoU 30 / 50."""
    method = build("clockdistill", query_spec("s"), query_spec("t"), memory=0)
    student, _, teacher, _ = sides(2)
    found = terms(method, output(student), output(teacher), labels())
    assert float(found["class"]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-4)
    assert float(found["l1"]) == pytest.approx(0.5, rel=1e-4)
    assert float(found["giou"]) == pytest.approx(2 * (1 - 30 / 50), rel=1e-4)


def test_images_without_objects_ask_about_nothing() -> None:
    method = build("clockdistill", query_spec("s"), query_spec("t"), memory=0)
    student, _, teacher, theirs = sides(2)
    found = terms(method, output(student), output(teacher), empty_batch(2, 100))
    assert all(float(value) == 0 for value in found.values())
    assert float(theirs.asked[0][0].abs().sum()) == 0


def test_jitter_moves_centres_and_keeps_sizes() -> None:
    method = build("clockdistill", query_spec("s"), query_spec("t"), memory=0, jitter=0.5)
    _, _, teacher, theirs = sides(2)
    method.knowledge(output(teacher), labels())
    plain = torch.tensor([[0.2, 0.2, 0.4, 0.4], [0.75, 0.7, 0.5, 0.4]])
    moved = theirs.asked[0][1][0]
    torch.testing.assert_close(moved[:, 2:], plain[:, 2:])
    apart = (moved[:, :2] - plain[:, :2]).abs()
    assert float(apart.max()) > 0
    assert bool((apart <= 0.25 * plain[:, 2:] + 1e-6).all())


def test_memory_by_hand() -> None:
    """A map of 4 x 4 cells of 8 px, an object of one cell: its mask covers four (FGD's rule), twelve are background.

    Squares are 1 per channel everywhere: 2 channels * 4 cells / 4 inside, 2 * 12 / 12 outside.
    """
    given = boxes_of([[0.0, 0, 8, 8]])
    inside, outside = located_distance(torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), given)
    assert (float(inside), float(outside)) == (pytest.approx(2.0), pytest.approx(2.0))


def test_memory_has_its_two_factors() -> None:
    method = build("clockdistill", query_spec("s"), query_spec("t"), answers=0)
    maps = {"maps": (torch.zeros(1, 4, 4, 4),)}
    teacher, student = predictions(LOGITS, BOXES, **maps), predictions(LOGITS, BOXES, maps=(torch.ones(1, 4, 4, 4),))
    found = terms(method, output(student), output(teacher), boxes_of([[0.0, 0, 8, 8]]))
    assert float(found["foreground"]) == pytest.approx(5e-5 * 4, rel=1e-4)
    assert float(found["background"]) == pytest.approx(1e-7 * 4, rel=1e-4)
