"""KD-DETR by hand: what is asked, and what answers cost."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from edgekd.detectors.outputs import DetectorOutput
from edgekd.detectors.queries import Decoder, QueryPredictions, States
from edgekd.distill.query.anchors import boxes_at, grid, points_of_boxes, random_points
from edgekd.distill.query.places import random_boxes, uniform

from ..helpers import build, dense, spec, terms
from .fakes import BOXES, LOGITS, one_object, output, predictions, query_spec


class Oracle:
    """A decoder that answers every query alike, and remembers what it was asked."""

    def __init__(self, logits: Tensor, box_px: Tensor) -> None:
        self.logits, self.box_px = logits, box_px
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.decoder = Decoder(4, self._run, lambda boxes: boxes * 2)

    def _run(self, content: Tensor, boxes: Tensor, _parts: object) -> QueryPredictions:
        self.asked.append((content, boxes))
        count = boxes.shape[1]
        return predictions(self.logits.expand(1, count, -1), self.box_px.expand(1, count, -1))


def sides() -> tuple[QueryPredictions, Oracle, QueryPredictions, Oracle]:
    ours = Oracle(torch.zeros(3), torch.tensor([10.0, 0, 50, 40]))
    theirs = Oracle(torch.tensor([0.0, math.log(3), 0.0]), torch.tensor([0.0, 0, 40, 40]))
    states = States(torch.randn(1, 3, 4), torch.randn(1, 1, 3, 4), torch.rand(1, 1, 3, 4))
    return (
        predictions(LOGITS, BOXES, asked=ours.decoder), ours,
        predictions(LOGITS, BOXES, asked=theirs.decoder, states=states), theirs,
    )  # fmt: skip


def test_general_points_by_hand() -> None:
    """All answers alike: 3/4 against 1/2 for one class; boxes 10 of 100 px apart with IoU 30 / 50."""
    method = build("kd_detr", query_spec("s"), query_spec("t"), general=7, specific=0)
    student, ours, teacher, theirs = sides()
    found = terms(method, output(student), output(teacher), one_object())
    assert float(found["class"]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-4)
    assert float(found["l1"]) == pytest.approx(0.5, rel=1e-4)
    assert float(found["giou"]) == pytest.approx(2 * (1 - 30 / 50), rel=1e-4)
    (content, boxes), (_, same) = theirs.asked[0], ours.asked[0]
    assert torch.equal(boxes, same), "both answer the same questions"
    assert torch.equal(content, boxes * 2), "with content of their own"


def test_specific_points_are_the_teachers_own_queries() -> None:
    """Best first, weighted by their scores, which were found without asking: the teacher is spared a second pass."""
    method = build("kd_detr", query_spec("s"), query_spec("t"), general=0, specific=2, content="teacher")
    student, ours, teacher, theirs = sides()
    found = terms(method, output(student), output(teacher), one_object())
    assert theirs.asked == []
    content, boxes = ours.asked[0]
    assert torch.equal(boxes, teacher.references[0][:, :2])
    assert torch.equal(content, teacher.content[:, :2]), "no layer between equal widths"
    first, second = torch.tensor(2.0).sigmoid(), torch.tensor(1.0).sigmoid()
    moved = [
        abs(70 - 30) / 100 + abs(70 - 20) / 100,
        10 / 100,
    ]  # of the student's answer to either box; sizes are equal
    expected = 5 * (float(first) * moved[0] + float(second) * moved[1]) / float(first + second)
    assert float(found["l1"]) == pytest.approx(expected, rel=1e-4)


def test_groups_do_not_see_each_other() -> None:
    method = build("kd_detr", query_spec("s"), query_spec("t"), general=5, specific=3)
    student, ours, teacher, theirs = sides()
    terms(method, output(student), output(teacher), one_object())
    assert [boxes.shape[1] for _, boxes in ours.asked] == [5, 3]
    assert [boxes.shape[1] for _, boxes in theirs.asked] == [5]


def test_a_dense_student_is_asked_at_its_points() -> None:
    """All points predict alike: p = 1/2 for all classes, and a square of two strides about the point."""
    student = spec("yolo", (4,), (20,), bins=1)
    method = build("kd_detr", student, query_spec("t"), general=6, specific=1)
    _, _, teacher, theirs = sides()
    ours = dense(torch.zeros(1, 25, 3), distances=torch.ones(1, 25, 4), size_px=100, strides=[20])
    found = terms(method, DetectorOutput({}, {"one2many": ours}), output(teacher), one_object())
    assert float(found["class"]) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-4)
    assert [boxes.shape[1] for _, boxes in theirs.asked] == [6, 1]
    (_, boxes) = theirs.asked[1]
    assert boxes.flatten().tolist() == pytest.approx([0.7, 0.7, 0.8, 0.8]), (
        "the point in the best box, four strides wide"
    )


def test_points_of_a_grid() -> None:
    head = spec("yolo", (4, 4), (8, 16)).head
    points, strides = grid(head, torch.zeros(1, 3, 16, 32))  # type: ignore[arg-type]
    assert points.tolist()[:2] == [[4.0, 4.0], [12.0, 4.0]]
    assert points.tolist()[-2:] == [[8.0, 8.0], [24.0, 8.0]]
    assert strides.tolist() == [8.0] * 8 + [16.0] * 2
    assert boxes_at(points, strides, 2.0, torch.zeros(1, 3, 16, 32))[-1].tolist() == pytest.approx(
        [0.75, 0.5, 1.0, 2.0]
    )
    boxes = torch.tensor([[[8.0, 0, 16, 8], [0, 0, 40, 40]]])  # as wide as a fine cell; as wide as coarse ones at most
    assert points_of_boxes(boxes, points, strides, 2.0).tolist() == [[1, 9]]


def test_random_places_are_the_images_own() -> None:
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = random_boxes(images, 500)
    assert torch.equal(found, random_boxes(images.clone(), 500))
    assert torch.equal(found[1:], random_boxes(images[1:], 500)), "whatever else is in the batch"
    changed = images.clone()
    changed[0, 0, 0, 0] += 0.01
    assert not torch.equal(found[0], random_boxes(changed, 500)[0])
    assert not torch.equal(uniform(images, 5, 2), uniform(images, 5, 2, salt=1))


def test_random_places_are_uniform() -> None:
    """Mean 1/2 and variance 1/12 of each coordinate, no correlation, every tenth as often; images differ."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    drawn = random_boxes(images, 2000).flatten(0, 1)
    assert float(drawn.min()) >= 0 and float(drawn.max()) < 1
    assert drawn.mean(0).tolist() == pytest.approx([0.5] * 4, abs=0.02)
    assert drawn.var(0).tolist() == pytest.approx([1 / 12] * 4, rel=0.05)
    assert float((torch.corrcoef(drawn.T) - torch.eye(4)).abs().max()) < 0.05
    counts = torch.histc(drawn, 10, 0, 1)
    assert float((counts / counts.mean() - 1).abs().max()) < 0.1
    points = random_points(torch.zeros(7, 2), images, 1000)
    assert torch.bincount(points.flatten(), minlength=7).tolist() == pytest.approx([4000 / 7] * 7, rel=0.15)


def test_what_a_dense_student_is_taught_is_the_last_layers() -> None:
    """Nothing else is kept: of six layers it would be six times as much."""

    def run(_content: Tensor, boxes: Tensor, _parts: object) -> QueryPredictions:
        layer = torch.arange(2.0)[:, None, None, None].expand(2, 1, boxes.shape[1], 1)
        return QueryPredictions(layer.expand(-1, -1, -1, 3), layer.expand(-1, -1, -1, 4), (0, 1))

    method = build("kd_detr", spec("yolo", (4,), (20,), bins=1), query_spec("t", layers=2), general=6, specific=0)
    teacher = predictions(LOGITS, BOXES, asked=Decoder(4, run, lambda boxes: boxes))
    found = method.knowledge(output(teacher), one_object())
    assert torch.equal(found["logits"], torch.ones(1, 1, 6, 3)) and torch.equal(
        found["answers"], torch.ones(1, 1, 6, 4)
    )
