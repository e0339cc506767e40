"""What a method may hold and draw: frozen parts of the teacher, modules of its own, random numbers of its own."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.detectors.outputs import Batch, DetectorOutput
from edgekd.detectors.spec import Needs
from edgekd.detectors.ultralytics.guard import guard
from edgekd.distill import contract
from edgekd.distill.config import DistillerConfig, Schedule
from edgekd.distill.contract import Distiller, Moment, Pair, Wiring
from edgekd.errors import InputError
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.teacher import Teacher
from tests.training.helpers import SAME_CLASSES, detector
from tests.training.steps import batch_of, trained


class ThroughTheTeacher(Distiller):
    """The student's features, adapted, through the last layer of the teacher's frozen head; CrossKD's idea."""

    config_type = DistillerConfig

    def build(self, pair: Pair) -> Wiring:
        self.ours, theirs = pair.student.taps_of("neck")[0], pair.teacher.taps_of("head_cls")[0]
        self.adapter = nn.Conv2d(self.ours.channels, theirs.channels, 1)
        self.tail = pair.head_tail("class_logits", 0, 2, "one2many")
        return Wiring(Needs((self.ours,)), Needs(parts=frozenset({"class_logits"})))

    def knowledge(self, teacher: DetectorOutput, batch: Batch) -> dict[str, Tensor]:
        points = teacher.dense["one2many"].level_sizes[0]
        return {"logits": teacher.dense["one2many"].class_logits[:, : points[0] * points[1]]}

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        found = self.tail(self.adapter(student.taps[self.ours.key])).flatten(2).transpose(1, 2)
        return {"class": (found - knowledge["logits"]).square().mean()}


class Adversary(Distiller):
    """A discriminator learns to tell the sides apart; the student learns to fool it."""

    config_type = DistillerConfig
    auxiliary = frozenset({"discriminator"})
    detached = True

    def build(self, pair: Pair) -> Wiring:
        self.ours, self.theirs = (spec.taps_of("neck")[0] for spec in (pair.student, pair.teacher))
        self.adapter = nn.Conv2d(self.ours.channels, self.theirs.channels, 1)
        self.discriminator = nn.Conv2d(self.theirs.channels, 1, 1)
        return Wiring(Needs((self.ours,)), Needs((self.theirs,)))

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        own = self.adapter(student.taps[self.ours.key])
        weights = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = torch.func.functional_call(self.discriminator, weights, own)
        caught = self.discriminator(own.detach() if self.detached else own)
        known = self.discriminator(knowledge[self.theirs.key])
        return {"fool": fooled.square().mean(), "discriminator": (known - 1).square().mean() + caught.square().mean()}


class Leaking(Adversary):
    detached = False


class Drawing(Distiller):
    """Random in every step, as masks are."""

    config_type = DistillerConfig

    def build(self, pair: Pair) -> Wiring:
        self.ours = pair.student.taps_of("neck")[0]
        self.drawn: list[float] = []
        return Wiring(Needs((self.ours,)), Needs(pair.teacher.taps_of("neck")[:1]))

    def terms(
        self, student: DetectorOutput, knowledge: Mapping[str, Tensor], batch: Batch, moment: Moment
    ) -> dict[str, Tensor]:
        share = torch.rand((), generator=moment.generator)
        self.drawn.append(float(share))
        return {"feature": student.taps[self.ours.key].square().mean() * share}


def module_of(monkeypatch: pytest.MonkeyPatch, *kinds: type[Distiller], seed: int = 0, **config: Any) -> Any:
    """yolo11p taught by a trained yolo11n, by methods that only this test knows; after what the engine does to it."""
    guard()
    from ultralytics.cfg import get_cfg

    for kind in kinds:
        monkeypatch.setattr(kind, "name", kind.__name__.lower(), raising=False)
        monkeypatch.setitem(contract._REGISTRY, kind.__name__.lower(), kind)
    student = detector("yolo11p")
    student.module.args = get_cfg()
    teacher = Teacher(trained().frozen(), SAME_CLASSES)
    chosen = [(kind.__name__.lower(), DistillerConfig(**config)) for kind in kinds]
    torch.manual_seed(0)
    parts = build_distillers(chosen, student.spec, {"teacher": teacher})
    module = DistillationModule(student, student.module, parts, [teacher] * len(parts), epochs=4, seed=seed)
    module.train().requires_grad_(True)
    return module


def test_gradients_pass_a_frozen_part_which_never_changes(monkeypatch: pytest.MonkeyPatch, tiny_digits: Path) -> None:
    module = module_of(monkeypatch, ThroughTheTeacher)
    tail = module.distillers[0].tail._module
    before = {name: value.clone() for name, value in tail.state_dict().items()}
    hidden = {value.data_ptr() for value in tail.state_dict().values()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, weight_decay=0.1)
    loss, _ = module(batch_of(tiny_digits))
    loss.sum().backward()
    optimizer.step()
    assert module.distillers[0].adapter.weight.grad.abs().sum() > 0
    assert all(torch.equal(value, before[name]) for name, value in tail.state_dict().items())
    assert all(value.grad is None and not value.requires_grad for value in tail.parameters())
    assert not hidden & {value.data_ptr() for group in optimizer.param_groups for value in group["params"]}
    assert not any("tail" in name for name in module.state_dict())
    assert copy.deepcopy(module.distillers[0]).tail is module.distillers[0].tail


def test_an_auxiliary_term_trains_its_own_modules_alone(monkeypatch: pytest.MonkeyPatch, tiny_digits: Path) -> None:
    module = module_of(monkeypatch, Adversary, weight=3.0)
    loss, items = module(batch_of(tiny_digits))
    loss.sum().backward()
    discriminator = module.distillers[0].discriminator.weight.grad.clone()
    knowledge = module.distillers[0]
    assert discriminator.abs().sum() > 0 and knowledge.adapter.weight.grad.abs().sum() > 0
    module.balance.flush()
    rows = {row["term"]: row for row in module.balance.rows}
    assert rows["adversary.fool"]["weight"] == 3.0 and rows["adversary.discriminator"]["weight"] == 1.0
    assert rows["detection"]["share"] + rows["adversary.fool"]["share"] == pytest.approx(1.0)
    reported = [term["term"] for term in module.balance.report()["terms"]]
    assert reported == ["detection", "adversary.fool"], "no share, no gradient at the student"
    assert set(items) >= {"kd/adversary.fool", "kd/adversary.discriminator"}


def test_an_auxiliary_term_that_reaches_the_student_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, tiny_digits: Path
) -> None:
    module = module_of(monkeypatch, Leaking)
    with pytest.raises(InputError, match=r"'leaking\.discriminator' trains the method's own modules, but it reaches"):
        module(batch_of(tiny_digits))


def test_random_numbers_of_a_method_are_its_own(monkeypatch: pytest.MonkeyPatch, tiny_digits: Path) -> None:
    """The same in every process that comes to the same step, and nothing else in the process moves by them."""
    batch = batch_of(tiny_digits)
    module, again, other = (module_of(monkeypatch, Drawing, Drawing, seed=seed) for seed in (0, 0, 1))
    before = torch.get_rng_state()
    for _ in range(2):
        module(batch)
    assert torch.equal(torch.get_rng_state(), before)
    again.step = 1
    again(batch)
    other(batch)
    first, second = (part.drawn for part in module.distillers)
    assert len({*first, *second, *other.distillers[0].drawn}) == 5, "by step, by method, by seed"
    assert again.distillers[0].drawn == first[1:]


def test_a_method_that_has_ended_is_left_out_alone(monkeypatch: pytest.MonkeyPatch, tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits)
    module = module_of(monkeypatch, Drawing, Adversary)
    module.distillers[0].config = DistillerConfig(schedule=Schedule(until_epoch=2))
    module(batch)
    module.step = 2
    _, items = module(batch)
    assert items["kd/drawing.feature"] == 0 and items["kd/adversary.fool"] > 0
    assert len(module.distillers[0].drawn) == 1, "it was not asked again"
