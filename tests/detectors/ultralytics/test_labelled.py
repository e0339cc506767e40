"""Images without labels go through the network and are no part of its loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.outputs import Batch, Guidance, TrainingPass
from edgekd.detectors.spec import Needs
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.training.engines.batch import batch_of
from tests.training.helpers import detector
from tests.training.steps import batch_of as engine_batch

STUDENTS = ["yolo11p", "yolo26p"]
LABELLED = torch.tensor([True, False, True, False])


@pytest.fixture(scope="module", params=STUDENTS)
def student(request: pytest.FixtureRequest) -> UltralyticsDetector:
    return built(request.param)


@pytest.fixture(scope="module", params=[*STUDENTS, "rtdetr-l"])
def any_student(request: pytest.FixtureRequest) -> UltralyticsDetector:
    return built(request.param)


def built(name: str) -> UltralyticsDetector:
    """Batch norms are frozen: with statistics of their own, other images would change the labelled ones."""
    from ultralytics.cfg import get_cfg

    made = detector(name)
    made.module.args, made.module.nc = get_cfg(), len(CLASS_NAMES)  # as the engine does
    made.module.train().requires_grad_(True)
    for part in made.module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    return made


@pytest.fixture
def batch(tiny_digits: Path) -> Batch:
    return batch_of(engine_batch(tiny_digits, size=4))


def with_labels(batch: Batch, labelled: torch.Tensor) -> Batch:
    return replace(batch, shown=replace(batch.view, labelled=labelled, all_labelled=bool(labelled.all())))


def chosen(batch: Batch, images: list[int]) -> Batch:
    """These images alone, as the engine would hand them out."""
    engine: Any = batch.engine
    rows = [row for row in range(len(batch.image_index)) if int(batch.image_index[row]) in images]
    index = torch.tensor([images.index(int(batch.image_index[row])) for row in rows])
    parts = {"img": engine["img"][images], "cls": engine["cls"][rows], "bboxes": engine["bboxes"][rows]}
    return batch_of({**parts, "batch_idx": index})


def passed(student: UltralyticsDetector, batch: Batch, *parts: Any, **guidance: Any) -> TrainingPass:
    torch.manual_seed(0)  # of RT-DETR's denoising
    student.module.zero_grad()
    found = student.training_pass(batch, Needs(parts=frozenset(parts)), Guidance(**guidance))
    found.loss.sum().backward()
    return found


def gradients(student: UltralyticsDetector) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in student.module.named_parameters() if value.grad is not None}


def test_the_loss_is_that_of_the_labelled_images_alone(any_student: UltralyticsDetector, batch: Batch) -> None:
    alone = passed(any_student, chosen(batch, [0, 2]))
    expected = gradients(any_student)
    among = passed(any_student, with_labels(batch, LABELLED))
    found = gradients(any_student)
    torch.testing.assert_close(among.loss, alone.loss, rtol=1e-5, atol=1e-5)
    assert among.items.keys() == alone.items.keys()
    for name, value in among.items.items():
        torch.testing.assert_close(value, alone.items[name], rtol=1e-5, atol=1e-5)
    size = torch.cat([value.flatten() for value in expected.values()]).norm()
    apart = torch.cat([(found[name] - value).flatten() for name, value in expected.items()]).norm()
    assert apart < 1e-3 * size


def test_boxes_of_images_without_labels_do_not_count(student: UltralyticsDetector, batch: Batch) -> None:
    """A mosaic with one part that has none keeps the others' boxes; which are not all."""
    plain = passed(student, with_labels(batch, LABELLED))
    engine: Any = batch.engine
    moved = engine["bboxes"].clone()
    moved[(engine["batch_idx"].view(-1) % 2) == 1] /= 2
    other = passed(student, with_labels(batch_of({**engine, "bboxes": moved}), LABELLED))
    assert torch.equal(plain.loss, other.loss)


def test_methods_see_all_images(student: UltralyticsDetector, batch: Batch) -> None:
    found = passed(student, with_labels(batch, LABELLED)).output
    predictions = found.queries.class_logits[0] if found.queries else found.dense["one2many"].class_logits
    assert predictions.shape[0] == 4
    assert predictions.requires_grad


def test_no_image_has_labels(any_student: UltralyticsDetector, batch: Batch) -> None:
    whole = passed(any_student, batch)
    found = passed(any_student, with_labels(batch, torch.zeros(4, dtype=torch.bool)), "assignment")
    assert not found.loss.any()
    assert found.items.keys() == whole.items.keys() and not any(value.any() for value in found.items.values())
    assert not any(value.any() for value in gradients(any_student).values())
    assert found.loss.requires_grad, "the engine goes backward from it"
    for dense in found.output.dense.values():
        assert not dense.assignment.foreground.any()


def test_all_labelled_is_the_engines_own_loss(student: UltralyticsDetector, batch: Batch) -> None:
    torch.manual_seed(0)
    expected, _ = student.module.loss(batch.engine)
    assert torch.equal(passed(student, with_labels(batch, torch.ones(4, dtype=torch.bool))).loss, expected)


@pytest.mark.parametrize("name", ["yolo11p", "yolo26p"])
def test_assignment_and_guidance_are_of_the_whole_batch(name: str, batch: Batch) -> None:
    from ultralytics.cfg import get_cfg

    student = detector(name)
    student.module.args = get_cfg()
    student.module.train()
    found = passed(student, with_labels(batch, LABELLED), "assignment")
    own = {key: (one.class_logits.detach().sigmoid(), one.boxes_px.detach()) for key, one in found.output.dense.items()}
    for predictions in found.output.dense.values():
        assigned = predictions.assignment
        assert assigned.foreground.shape[0] == 4
        assert assigned.foreground[[0, 2]].any() and not assigned.foreground[[1, 3]].any()
        rows = assigned.box_index[assigned.foreground]
        image_of_point = torch.arange(4)[:, None].expand_as(assigned.box_index)[assigned.foreground]
        assert torch.equal(batch.image_index[rows], image_of_point)
    guided = passed(student, with_labels(batch, LABELLED), "assignment", assign_by=own)
    assert guided.output.dense["one2many"].assignment.foreground.shape[0] == 4
