"""What every detector that can be trained does, beside what every detector does (`edgekd.testing.detectors`)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekd.detectors import families
from edgekd.detectors.capture import run
from edgekd.detectors.contract import Asked, Detector, Trainable
from edgekd.detectors.outputs import Batch, Guidance, TrainingPass, View
from edgekd.detectors.spec import NOTHING, DenseHead, Needs, QueryHead
from edgekd.export.contract import Source
from edgekd.export.parity import require
from edgekd.export.targets import load_target, run_steps
from edgekd.testing import trainings
from edgekd.testing.detectors import DetectorContract
from edgekd.testing.predictions import NAMES, images_of
from edgekd.testing.queries import asked_in_training
from edgekd.training.engines.batch import batch_of
from edgekd.training.engines.shell import introduce, network_of
from edgekd.training.fake_quantization import FakeQuantization
from edgekd.training.memory import checkpointed

_SIDE_PX = 128
# image, class, centre and size as shares of the image: three objects in the first image, one in the third
_OBJECTS = (
    (0, 0, 0.3, 0.3, 0.3, 0.4),
    (0, 2, 0.7, 0.6, 0.5, 0.5),
    (0, 1, 0.5, 0.5, 0.2, 0.2),
    (2, 3, 0.4, 0.6, 0.6, 0.3),
)
_PREDICTIONS = Needs(parts=frozenset({"class_logits", "boxes"}))


def batch(channels: int = 3, objects: Sequence[tuple[float, ...]] = _OBJECTS) -> Batch:
    """Three images of 128 px, the second without an object, as the engine hands them out."""
    rows = torch.tensor(objects).reshape(-1, 6)
    generator = torch.Generator().manual_seed(2)
    return batch_of({
        "img": torch.rand(3, channels, _SIDE_PX, _SIDE_PX, generator=generator), "batch_idx": rows[:, 0],
        "cls": rows[:, 1:2], "bboxes": rows[:, 2:],
    })  # fmt: skip


class TrainableContract(DetectorContract):
    """Of a detector that can teach and be trained.

    Attributes:
        modules: what registers the family, where no entry point does.
    """

    modules: ClassVar[Sequence[str]] = ()

    def student(self, names: Sequence[str] = NAMES, channels: int = 3) -> Trainable:
        """One of its own, as a training has it: in training mode, with the engine's arguments."""
        torch.manual_seed(1)
        made = families.trainable(self.open(names, channels), "test").rebuilt(names, False)
        introduce(network_of(made, names), names)
        made.module.train().requires_grad_(True)
        return made

    def passed(
        self, student: Trainable, needs: Needs = NOTHING, given: Batch | None = None, **steered: Any
    ) -> TrainingPass:
        """A training pass whose random numbers are always the same."""
        torch.manual_seed(3)
        return student.training_pass(given or batch(), needs, Guidance(**steered))

    def test_a_training_pass(self) -> None:
        student = self.student()
        taps = student.spec.taps_of("neck")
        found = self.passed(student, Needs(taps, frozenset({"class_logits", "boxes"})))
        assert found.loss.ndim <= 1  # one number, or one for each part
        assert float(found.loss.detach().min()) >= 0
        assert torch.isfinite(found.loss).all()
        assert found.items
        assert not any(value.requires_grad for value in found.items.values())
        assert set(found.output.taps) == {tap.key for tap in taps}
        torch.autograd.backward(found.loss.sum())
        for path, value in student.module.named_parameters():
            assert value.grad is None or torch.isfinite(value.grad).all(), path
        learning = [path for path, value in student.module.named_parameters() if value.grad is not None]
        assert len(learning) > 0.9 * len(list(student.module.parameters()))

    def test_what_methods_read_comes_from_the_same_pass(self) -> None:
        """A term of the predictions has a gradient at one of the anchors, and so has the loss."""
        student = self.student()
        taps = student.spec.taps_of("neck")
        found = self.passed(student, Needs(taps, frozenset({"class_logits", "boxes"})))
        dense = [one for branch in found.output.dense.values() for one in (branch.class_logits, branch.boxes_px)]
        queries = found.output.queries
        read = [*dense, *([queries.class_logits, queries.boxes_px] if queries else [])]
        anchors = list(found.anchors.values())
        assert all(anchor.requires_grad for anchor in anchors)
        for value in (found.loss, *read, *found.output.taps.values()):
            gradients = torch.autograd.grad(value.float().sum(), anchors, retain_graph=True, allow_unused=True)
            assert any(one is not None and bool(one.abs().sum() > 0) for one in gradients)

    def test_it_can_be_asked_while_it_learns(self) -> None:
        """Of a query head."""
        student = self.student()
        if isinstance(student.spec.head, QueryHead):
            for given in (batch(), batch(objects=())):
                asked_in_training(student, partial(self.passed, student, given=given), given)

    def test_images_without_objects(self) -> None:
        found = self.passed(self.student(), given=batch(objects=()))
        assert torch.isfinite(found.loss).all()
        torch.autograd.backward(found.loss.sum())

    def test_images_without_labels(self) -> None:
        """Whatever boxes they have, they are no part of the loss: neither objects nor background."""
        objects = (*_OBJECTS, (1, 0, 0.5, 0.5, 0.4, 0.4))
        view = View.whole(batch().images)
        partly = replace(view, labelled=torch.tensor([True, False, True]), all_labelled=False)
        background = self.passed(self.student(), given=batch()).loss.detach()
        without, with_boxes = (
            self.passed(self.student(), given=replace(batch(objects=given), shown=partly)).loss.detach()
            for given in (_OBJECTS, objects)
        )
        torch.testing.assert_close(without, with_boxes)
        assert not torch.allclose(without, background)

    def test_the_loss_falls(self) -> None:
        """A few steps on one batch."""
        student = self.student()
        optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-3)
        losses = []
        for _ in range(6):
            loss = self.passed(student).loss.sum()
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        assert min(losses[3:]) < losses[0]

    def test_who_is_positive(self) -> None:
        student = self.student()
        if not isinstance(student.spec.head, DenseHead):
            return
        given = batch()
        found = self.passed(student, Needs(parts=frozenset({"assignment"})), given)
        for dense in found.output.dense.values():
            decided, points = dense.assignment, len(dense.points_px)
            assert decided.foreground.shape == (3, points)
            assert decided.class_targets.shape == (3, points, len(NAMES))
            assert bool(decided.foreground[0].any())
            assert not bool(decided.foreground[1].any())
            assert bool((decided.box_index[~decided.foreground] == -1).all())
            image, _ = decided.foreground.nonzero().unbind(1)
            rows = decided.box_index[decided.foreground]
            assert torch.equal(given.image_index[rows], image)
            assert float(decided.class_targets[~decided.foreground].abs().sum()) == 0
            best = decided.class_targets[decided.foreground].argmax(-1)
            assert torch.equal(best, given.class_ids[rows])
        plain = self.passed(student, NOTHING, given)
        with pytest.raises(RuntimeError, match="add 'assignment'"):
            _ = next(iter(plain.output.dense.values())).assignment

    def test_a_teacher_may_say_who_is_positive(self) -> None:
        student = self.student()
        if not isinstance(student.spec.head, DenseHead):
            return
        given, needs = batch(), Needs(parts=frozenset({"assignment"}))
        own = self.passed(student, needs, given).output.dense
        for branch, dense in own.items():
            scores = torch.rand(dense.assignment.class_targets.shape, generator=torch.Generator().manual_seed(4))
            boxes = given.boxes_px[dense.assignment.box_index.clamp_min(0)]
            steered = self.passed(student, needs, given, assign_by={branch: (scores, boxes)}).output.dense[branch]
            assert not torch.equal(steered.assignment.foreground, dense.assignment.foreground)

    def test_layers_may_be_computed_anew(self) -> None:
        """The same losses and gradients, with less kept in between."""
        found = []
        for on in (False, True):
            student = self.student()
            assert student.layers()
            own = {id(part) for part in student.module.modules()}
            assert all(id(layer) in own for layer in student.layers())
            with checkpointed(student.layers() if on else ()):
                loss = self.passed(student).loss
            torch.autograd.backward(loss.sum())
            found.append((loss.detach(), [value.grad for value in student.module.parameters()]))
        assert torch.equal(found[0][0], found[1][0])
        for plain, again in zip(found[0][1], found[1][1], strict=True):
            assert (plain is None) == (again is None)
            assert plain is None or again is None or torch.equal(plain, again)

    def test_its_sections(self) -> None:
        """Each weight is in one of them."""
        student = families.trainable(self.open(), "test")
        sections = student.sections()
        assert set(sections) == {"backbone", "neck", "head"}
        prefixes = [prefix for section in sections.values() for prefix in section]
        for path, _ in student.module.named_parameters():
            assert sum(path.startswith(prefix) for prefix in prefixes) == 1, path

    def test_what_can_be_quantised(self) -> None:
        student = self.student()
        every, few = student.quantisable(), student.quantisable(float_predictions=True)
        assert set(few) <= set(every)
        if isinstance(student.spec.head, DenseHead):  # predictions of queries come from linear layers
            assert set(few) < set(every)
        assert all(student.module.get_submodule(path) is part for path, part in every.items())
        part = FakeQuantization()
        plain = self.passed(student).loss.detach()
        part.on(student, observing=True)
        quantised = self.passed(student).loss.detach()
        part.end_batch()
        assert set(part.spans) == set(every), "each runs in a training pass"
        assert torch.isfinite(quantised).all()
        assert not torch.equal(plain, quantised)

    def test_built_anew(self) -> None:
        student = families.trainable(self.open(), "test")
        torch.manual_seed(5)
        one = student.rebuilt(NAMES, False)
        torch.manual_seed(5)
        same, other = student.rebuilt(NAMES, False), student.rebuilt(NAMES[:2], True)
        weights, drawn, again, taken = (each.module.state_dict() for each in (student, one, same, other))
        assert all(torch.equal(value, again[key]) for key, value in drawn.items())
        assert not all(torch.equal(value, weights[key]) for key, value in drawn.items())
        assert one.spec == student.spec
        assert other.spec.class_names == NAMES[:2]
        fitting = [key for key, value in taken.items() if value.shape == weights[key].shape]
        assert all(torch.equal(taken[key], weights[key]) for key in fitting)

    def test_saved_and_opened_again(self, tmp_path: Path) -> None:
        """Every file that a trained student leaves is one of this family, and holds what was trained."""
        family = families.family(self.family)
        source = families.trainable(self.open(), "test")
        trained = source.with_module(deepcopy(source.module))
        trained.save(tmp_path, {"epochs": 2}, _SIDE_PX)
        assert [path.name for path in tmp_path.iterdir()] == [family.student_files[0]]
        source.with_module(deepcopy(source.module)).publish(tmp_path, {"ap": 0.5})
        assert {path.name for path in tmp_path.iterdir()} == set(family.student_files)
        for name in family.student_files:
            assert name.startswith("student.")
            assert families.meant(None, tmp_path / name) == self.family
            opened = family.open(Asked(None, tmp_path / name, (), 3, "test"))
            assert opened.spec.class_names == NAMES
            _close(opened, source)

    def test_an_artifact_finds_the_same(self, tmp_path: Path) -> None:
        """Exported to ONNX, for any size and batch, and compared with torch as every export is."""
        detector, target = self.open(), load_target("onnx-fp32", {}, "test")
        size_px = (2 * detector.spec.size_multiple, 3 * detector.spec.size_multiple)
        for head in detector.spec.branches or (None,):
            predictor: Any = detector.export_module(head)
            source = Source(predictor, predictor.decode, NAMES, 3, size_px, detector.spec.size_multiple, "5eed" * 16)
            artifact = run_steps(source, target, tmp_path / str(head))
            images = np.random.default_rng(0).integers(0, 255, (2, *size_px, 3), np.uint8)
            assert require(predictor, artifact, images, target)["passed"] is True

    @pytest.mark.slow
    def test_a_training_goes_on_where_it_was_stopped(self, tmp_path: Path) -> None:
        """It ends as the uninterrupted one: bit for bit."""
        data, training = trainings.images(tmp_path / "set"), trainings.Training((self.family, self.model))
        expected = trainings.whole(training, data, tmp_path / "whole")
        assert trainings.in_parts(training, data, tmp_path / "parts", (2, 2)) == expected

    @pytest.mark.slow
    def test_two_processes_train_one_student(self, tmp_path: Path) -> None:
        """Over gloo, on this machine."""
        training = trainings.Training((self.family, self.model), modules=self.modules)
        trainings.check_ranks(training, trainings.images(tmp_path / "set"), tmp_path / "ranks")


def _close(opened: Detector, source: Detector) -> None:
    """Weights equal up to half precision, and outputs alike."""
    expected = source.module.state_dict()
    for key, value in opened.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[key], atol=1e-3, rtol=1e-3)
    images: Tensor = images_of(source.spec, 1)
    with torch.no_grad():
        found = [run(one, images, _PREDICTIONS) for one in (opened, source)]
    for branch, dense in found[0].dense.items():
        torch.testing.assert_close(dense.class_logits, found[1].dense[branch].class_logits, atol=0.1, rtol=0.05)
