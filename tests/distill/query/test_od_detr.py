"""OD-DETR by hand: targets of two matchings, and the auxiliary group."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.detectors.outputs import Batch
from edgekd.detectors.queries import Decoder, QueryPredictions, States
from edgekd.distill.matching import Matches
from edgekd.distill.queries import Answers
from edgekd.distill.query.set_loss import Objects, quality_focal_loss, quality_targets
from edgekd.errors import InputError

from ..helpers import build, terms
from .fakes import one_object, output, predictions, query_spec

# of an object (0, 0, 40, 40) of class 1: far off, near, equal
BOXES = torch.tensor([[[60.0, 60, 90, 90], [0, 0, 40, 30], [0, 0, 40, 40]]])
LOGITS = torch.tensor([[[-2.0, -2.0, -2.0], [-2.0, 1.0, -2.0], [-2.0, 2.0, -2.0]]])


def single(query: int) -> Matches:
    return Matches(torch.tensor([0]), torch.tensor([query]), torch.tensor([0]))


def test_targets_of_two_matchings() -> None:
    """Each query's is the IoU of its own box: 3/4 and 1."""
    found = quality_targets(Answers(LOGITS, BOXES), (single(1), single(2)), Objects.of(one_object()))
    assert found.sum(-1)[0].tolist() == pytest.approx([0.0, 0.75, 1.0], abs=1e-3)
    assert found[0, :, 1].tolist() == pytest.approx([0.0, 0.75, 1.0], abs=1e-3)


def test_quality_focal_loss_by_hand() -> None:
    """|1/2 - 1/4|^2 * log 2."""
    found = quality_focal_loss(torch.zeros(1), torch.tensor([0.25]))
    assert float(found) == pytest.approx(0.0625 * 0.6931472, rel=1e-5)


def sides(answers: QueryPredictions) -> tuple[QueryPredictions, QueryPredictions, list[tuple[Tensor, Tensor]]]:
    asked: list[tuple[Tensor, Tensor]] = []

    def run(content: Tensor, boxes: Tensor, _parts: object) -> QueryPredictions:
        asked.append((content, boxes))
        count = boxes.shape[1]
        return predictions(answers.class_logits[0, :, :count], answers.boxes_px[0, :, :count])

    states = States(torch.randn(1, 3, 4), torch.arange(12.0).reshape(1, 1, 3, 4), torch.rand(1, 1, 3, 4))
    student = predictions(LOGITS, BOXES, asked=Decoder(4, run, lambda boxes: boxes))
    return student, predictions(LOGITS, BOXES, states=states), asked


def test_matching_by_hand() -> None:
    """The average gives the object to its third query; answers to the second are the best of the student's own."""
    ours = torch.stack([BOXES[0, 0], BOXES[0, 2], BOXES[0, 1]])[None]  # the second equal, the third near
    logits = torch.tensor([[[-2.0, -2.0, -2.0], [-2.0, 2.0, -2.0], [-2.0, -2.0, -2.0]]])
    method = build("od_detr", query_spec("s"), query_spec("t"), prediction=0, auxiliary=0)
    student, teacher, asked = sides(predictions(logits, ours))
    found = terms(method, output(student), output(teacher), one_object())
    assert torch.equal(asked[0][0], teacher.content)
    targets = torch.zeros(1, 3, 3)
    targets[0, 1, 1], targets[0, 2, 1] = 1.0, 0.75
    scores = logits.sigmoid()
    classes = ((scores - targets).square() * F.binary_cross_entropy(scores, targets, reduction="none")).sum()
    boxes = 5 * (0.05 + 0.1) + 2 * 0.25  # of the third: 40 x 30 for 40 x 40
    assert list(found) == ["matching"]
    assert float(found["matching"]) == pytest.approx(float(classes) + boxes, rel=1e-3)


def test_prediction_of_equal_answers_costs_nothing() -> None:
    method = build("od_detr", query_spec("s"), query_spec("t"), matching=0, auxiliary=0)
    student, teacher, _ = sides(predictions(LOGITS, BOXES))
    found = terms(method, output(student), output(teacher), one_object())
    assert float(found["prediction"]) == pytest.approx(0, abs=1e-5)


def test_the_auxiliary_group_has_two_queries_for_each_object() -> None:
    """The two of least cost, behind the layer: the third and the second; both shall predict the object."""
    perfect = predictions(torch.tensor([[[-20.0, 20, -20]] * 2]), BOXES[:, 2:].repeat(1, 2, 1))
    method = build("od_detr", query_spec("s"), query_spec("t"), matching=0, prediction=0)
    student, teacher, asked = sides(perfect)
    found = terms(method, output(student), output(teacher), one_object())
    content, boxes = asked[0]
    assert torch.equal(content, teacher.embeddings[0][:, [2, 1]])
    assert boxes.flatten().tolist() == pytest.approx([0.2, 0.2, 0.4, 0.4, 0.2, 0.15, 0.4, 0.3])
    assert float(found["auxiliary"]) == pytest.approx(0, abs=1e-4)


def test_a_stage_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"od_detr: stage: teacher t has decoder layers 0 to 2, given 3; choose one"):
        build("od_detr", query_spec("s"), query_spec("t", layers=3), stage=3)


def test_classes_that_the_teacher_does_not_know_are_not_taught() -> None:
    """Class 1 is the labels': no part of any term hangs on what is said of it."""
    teacher_of = replace(query_spec("t"), class_names=("three", "one"))
    method = build("od_detr", query_spec("s"), teacher_of, prediction=0)
    values = []
    for unknown in (0.0, 5.0):
        logits = LOGITS.clone()
        logits[..., 1] = unknown
        student, teacher, _ = sides(predictions(logits, BOXES))
        found = terms(method, output(student), output(teacher), one_object())
        values.append({name: float(value) for name, value in found.items()})
    assert values[0]["matching"] == pytest.approx(values[1]["matching"], rel=1e-5)
    assert values[0]["auxiliary"] == values[1]["auxiliary"] == 0, "there is no object that the teacher knows"


def test_an_image_with_fewer_objects_than_another() -> None:
    """Its queries are asked about again, and what is said to that counts for nothing.

    Two images with one object and with two, all answers perfect but those to the repeated queries: nothing is lost.
    """
    batch = Batch(
        torch.zeros(2, 3, 100, 100), torch.tensor([0, 1, 1]), torch.tensor([1, 1, 0]),
        torch.tensor([[0.0, 0, 40, 40], [0, 0, 40, 40], [60, 60, 90, 90]]),
    )  # fmt: skip
    boxes = torch.cat([BOXES, BOXES]).clone()
    logits = torch.tensor([[[-2.0, -2, -2], [-2, 1, -2], [-2, 2, -2]], [[3.0, -2, -2], [-2, 1, -2], [-2, 2, -2]]])
    asked: list[tuple[Tensor, Tensor]] = []

    def run(content: Tensor, given: Tensor, _parts: object) -> QueryPredictions:
        asked.append((content, given))
        near, far = [-20.0, 20, -20], [20.0, -20, -20]
        said = torch.tensor([[near, near, [9.0, 9, 9], [9.0, 9, 9]], [near, near, far, far]])
        where = torch.stack([BOXES[0, [2, 2, 0, 0]], BOXES[0, [2, 2, 0, 0]]])
        return predictions(said, where)

    embeddings = torch.arange(24.0).reshape(1, 2, 3, 4)
    states = States(torch.randn(2, 3, 4), embeddings, torch.rand(1, 2, 3, 4))
    method = build("od_detr", query_spec("s"), query_spec("t"), matching=0, prediction=0)
    student = predictions(logits, boxes, asked=Decoder(4, run, lambda places: places))
    found = terms(method, output(student), output(predictions(logits, boxes, states=states)), batch)
    content, _ = asked[0]
    assert torch.equal(content[0], embeddings[0, 0, [2, 1, 2, 1]]), "its own queries, not any others"
    assert torch.equal(content[1, :2], embeddings[0, 1, [2, 1]])
    assert torch.equal(content[1, 2], embeddings[0, 1, 0])
    assert float(found["auxiliary"]) == pytest.approx(0, abs=1e-4)
