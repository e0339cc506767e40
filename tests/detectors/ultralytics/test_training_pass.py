"""A student's pass: what its own loss decided can be read, and a teacher can decide in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.detectors.capture import run
from edgekd.detectors.outputs import Batch, DensePredictions, Guidance, TrainingPass
from edgekd.detectors.spec import Needs
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.training.engines.batch import batch_of
from tests.training.helpers import detector
from tests.training.steps import batch_of as engine_batch
from tests.training.steps import trained

ASSIGNMENT = Needs(parts=frozenset({"assignment"}))


@pytest.fixture(params=["yolo11p", "yolo26p"])
def student(request: pytest.FixtureRequest) -> UltralyticsDetector:
    from ultralytics.cfg import get_cfg

    built = detector(request.param)
    built.module.args = get_cfg()
    built.module.train().requires_grad_(True)
    return built


@pytest.fixture
def batch(tiny_digits: Path) -> Batch:
    return batch_of(engine_batch(tiny_digits))


def passed(student: UltralyticsDetector, batch: Batch, needs: Needs = ASSIGNMENT, **guidance: Any) -> TrainingPass:
    """Batch norms take what a pass saw into their averages; none of that may reach the next one."""
    before = {name: value.clone() for name, value in student.module.state_dict().items()}
    result = student.training_pass(batch, needs, Guidance(**guidance))
    student.module.load_state_dict(before)
    return result


def targets_of(
    student: UltralyticsDetector, predictions: DensePredictions, batch: Batch, branch: str
) -> tuple[Any, ...]:
    """What the engine's assigner of that branch makes of predictions."""
    criterion: Any = getattr(student.module.criterion, branch, student.module.criterion)
    boxes = predictions.boxes_px.detach()
    images, counts = batch.size, torch.bincount(batch.image_index, minlength=batch.size)
    labels, truth = torch.zeros(images, int(counts.max()), 1), torch.zeros(images, int(counts.max()), 4)
    for image in range(images):
        mine = batch.image_index == image
        labels[image, : counts[image], 0] = batch.class_ids[mine].float()
        truth[image, : counts[image]] = batch.boxes_px[mine]
    exists = truth.sum(2, keepdim=True) > 0
    scores = predictions.class_logits.detach().sigmoid()
    result: tuple[Any, ...] = criterion.assigner(scores, boxes, predictions.points_px, labels, truth, exists)
    return result


def test_the_assignment_is_the_engines(student: UltralyticsDetector, batch: Batch) -> None:
    found = passed(student, batch)
    for branch in student.spec.branches:
        own = found.output.dense[branch].assignment
        _, boxes, scores, foreground, _ = targets_of(student, found.output.dense[branch], batch, branch)
        assert own.foreground.sum() > 0 and torch.equal(own.foreground, foreground.bool())
        torch.testing.assert_close(own.class_targets, scores, rtol=1e-3, atol=1e-4)
        assert (own.box_index[~own.foreground] == -1).all()
        rows = own.box_index[own.foreground]
        torch.testing.assert_close(batch.boxes_px[rows], boxes[own.foreground], rtol=0, atol=1e-3)
        image_of_point = torch.arange(batch.size)[:, None].expand_as(own.box_index)[own.foreground]
        assert torch.equal(batch.image_index[rows], image_of_point)


def test_the_loss_does_not_notice_that_it_is_watched(student: UltralyticsDetector, batch: Batch) -> None:
    watched, plain = passed(student, batch), passed(student, batch, Needs())
    assert torch.equal(watched.loss, plain.loss)
    with pytest.raises(RuntimeError, match="add 'assignment' to the method's needs"):
        _ = plain.output.dense["one2many"].assignment


def test_guidance_by_the_students_own_predictions_changes_nothing(student: UltralyticsDetector, batch: Batch) -> None:
    plain = passed(student, batch)
    own = {
        name: (one.class_logits.detach().sigmoid(), one.boxes_px.detach()) for name, one in plain.output.dense.items()
    }
    guided = passed(student, batch, assign_by=own)
    torch.testing.assert_close(guided.loss, plain.loss, rtol=1e-4, atol=1e-4)


def test_a_teacher_decides_who_is_positive(student: UltralyticsDetector, batch: Batch) -> None:
    """LAD: the student's loss takes the assignment that the teacher's predictions give."""
    plain = passed(student, batch)
    with torch.no_grad():
        output = run(trained().frozen(), batch.images, Needs(parts=frozenset({"class_logits", "boxes"})))
    teacher = output.dense["one2many"]
    decided = {branch: (teacher.class_logits.sigmoid(), teacher.boxes_px) for branch in student.spec.branches}
    guided = passed(student, batch, assign_by=decided)
    for branch in student.spec.branches:
        _, _, scores, foreground, _ = targets_of(student, teacher, batch, branch)
        found = guided.output.dense[branch].assignment
        assert torch.equal(found.foreground, foreground.bool())
        torch.testing.assert_close(found.class_targets, scores, rtol=1e-3, atol=1e-4)
        assert found.class_targets.sum() > plain.output.dense[branch].assignment.class_targets.sum(), "it is sure"
    assert not torch.equal(plain.loss, guided.loss)
    assert torch.equal(passed(student, batch).loss, plain.loss), "nothing of it stays"


def test_images_without_boxes(student: UltralyticsDetector, batch: Batch) -> None:
    empty = {**batch.engine, "cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}  # type: ignore[dict-item]
    found = passed(student, batch_of(empty)).output.dense["one2many"].assignment
    assert not found.foreground.any() and (found.box_index == -1).all() and not found.class_targets.any()


def test_rows_of_a_batch_by_hand() -> None:
    none = torch.zeros(0)
    made = Batch(torch.zeros(3, 3, 4, 4), torch.tensor([2, 0, 2, 2]), none, none)
    assert made.rows.tolist() == [[1, -1, -1], [-1, -1, -1], [0, 2, 3]]
