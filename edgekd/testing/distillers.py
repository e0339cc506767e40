"""What every distillation method does. A method's tests inherit `DistillerContract`.

    class TestMine(DistillerContract):
        method = "mine"

The pair is a small YOLO from a larger one with random weights; a method for other detectors names its own. Values by
hand, and what the method must say of a given pair, stand in its own test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked, Trainable
from edgekd.detectors.outputs import Batch, Guidance, TrainingPass
from edgekd.distill.contract import Distiller, Moment, distiller_type
from edgekd.distill.requirements import unmet
from edgekd.testing import trainings
from edgekd.testing.predictions import NAMES
from edgekd.testing.training import batch
from edgekd.training.engines.shell import introduce, network_of
from edgekd.training.teacher import Teacher


class DistillerContract:
    """Of a method.

    Attributes:
        method, keys: as an entry of `distill` has them; keys that are left out have the method's defaults.
        student, teacher: family and model of the pair.
        modules: what registers the method, or a detector, where no entry point does.
    """

    method: ClassVar[str]
    keys: ClassVar[Mapping[str, Any]] = {}
    student: ClassVar[tuple[str, str]] = ("ultralytics", "yolo11p")
    teacher: ClassVar[tuple[str, str]] = ("ultralytics", "yolo11n")
    modules: ClassVar[Sequence[str]] = ()

    def test_what_it_says_of_itself(self) -> None:
        kind = distiller_type(self.method)
        assert kind.name == self.method
        assert kind.card.about
        assert kind.card.title
        assert kind.config_type.model_validate({}), "it can be named alone"
        assert issubclass(kind, Distiller)

    def test_it_serves_the_pair(self) -> None:
        student, teacher = self._pair()
        assert unmet(distiller_type(self.method).requires, teacher.pair(student.spec)) == []

    @pytest.mark.parametrize("objects", [True, False])
    def test_a_step(self, objects: bool) -> None:
        """Terms are finite scalars in float32; they reach student and the method's own weights, and no teacher."""
        student, teacher, method, given = *self._built(), batch() if objects else batch(objects=())
        knowledge = self._knowledge(method, teacher, given)
        found = self._terms(method, student, knowledge, given)
        assert found or method.guides
        for name, value in found.items():
            assert value.shape == (), name
            assert value.dtype == torch.float32, name
            assert torch.isfinite(value), name
        if not found or not objects:
            return
        torch.autograd.backward(torch.stack(list(found.values())).sum())
        reached = [value.grad for value in student.module.parameters() if value.grad is not None]
        if set(found) - method.auxiliary:
            assert any(float(value.abs().sum()) > 0 for value in reached)
        assert all(torch.isfinite(value).all() for value in reached)
        own = [(name, value) for name, value in method.named_parameters() if value.requires_grad]
        assert [name for name, value in own if value.grad is None] == [], "weights that nothing trains"
        teacher.assert_frozen()
        assert all(value.grad is None for value in teacher.detector.module.parameters())

    def test_knowledge_can_be_kept_image_by_image(self) -> None:
        """Read back and stacked it gives the same terms: from a teacher or from a disk is one code."""
        student, teacher, method, given = *self._built(), batch()
        knowledge = self._knowledge(method, teacher, given)
        assert all(value.shape[0] == given.size for value in knowledge.values())
        assert not any(value.requires_grad for value in knowledge.values())
        again = {
            key: torch.stack([value[image].clone() for image in range(given.size)]) for key, value in knowledge.items()
        }
        first, second = (self._terms(method, student, kept, given) for kept in (knowledge, again))
        for name, value in first.items():
            torch.testing.assert_close(second[name], value)

    def test_its_random_numbers_are_its_own(self) -> None:
        """A draw from torch's own generator would change the student's augmentation."""
        student, teacher, method, given = *self._built(), batch()
        knowledge = self._knowledge(method, teacher, given)
        output = self._passed(student, method, given).output
        before = torch.get_rng_state()
        method.terms(output, knowledge, given, _moment())
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.slow
    def test_a_training_goes_on_where_it_was_stopped(self, tmp_path: Path) -> None:
        """Its state, adapters and buffers included, is all that counts: bit for bit."""
        data = trainings.images(tmp_path / "set")
        expected = trainings.whole(self._training(), data, tmp_path / "whole")
        assert trainings.in_parts(self._training(), data, tmp_path / "parts", (2, 2)) == expected

    @pytest.mark.slow
    def test_two_processes_train_one_student(self, tmp_path: Path) -> None:
        trainings.check_ranks(self._training(), trainings.images(tmp_path / "set"), tmp_path / "ranks")

    def _training(self) -> trainings.Training:
        return trainings.Training(self.student, self.teacher, {self.method: dict(self.keys)}, self.modules)

    def _pair(self) -> tuple[Trainable, Teacher]:
        torch.manual_seed(0)
        teacher = families.open_detector(self.teacher[0], Asked(self.teacher[1], None, NAMES, 3, "test"))
        student = families.trainable(
            families.open_detector(self.student[0], Asked(self.student[1], None, NAMES, 3, "test")), "test"
        )
        student = student.rebuilt(NAMES, True)
        introduce(network_of(student, NAMES), NAMES)
        student.module.train().requires_grad_(True)
        return student, Teacher(teacher.frozen(), ClassMap.identity(len(NAMES)))

    def _built(self) -> tuple[Trainable, Teacher, Distiller]:
        student, teacher = self._pair()
        kind = distiller_type(self.method)
        return student, teacher, kind(kind.config_type.model_validate(dict(self.keys)), teacher.pair(student.spec))

    def _knowledge(self, method: Distiller, teacher: Teacher, given: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            return method.knowledge(teacher.forward(given.images, method.wiring.teacher), given)

    def _passed(self, student: Trainable, method: Distiller, given: Batch) -> TrainingPass:
        torch.manual_seed(3)
        return student.training_pass(given, method.wiring.student, Guidance())

    def _terms(
        self, method: Distiller, student: Trainable, knowledge: Mapping[str, Tensor], given: Batch
    ) -> dict[str, Tensor]:
        return method.terms(self._passed(student, method, given).output, knowledge, given, _moment())


def _moment() -> Moment:
    return Moment(0, 0.0, 10, torch.Generator().manual_seed(0))
