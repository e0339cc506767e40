"""Activation checkpointing keeps less and changes nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekd.training.arguments import OwnArguments
from edgekd.training.engines.build import make_trainer
from edgekd.training.fit import fit
from edgekd.training.memory import Checkpointing, checkpointed
from tests.training.helpers import detector, methods, plan, teachers
from tests.training.steps import batch_of, module_of
from tests.training.test_fit import state

SWITCHED_ON = OwnArguments(activation_checkpointing=True)


def student(name: str) -> Any:
    from ultralytics.cfg import get_cfg

    module = detector(name).module.train().requires_grad_(True)
    module.args, module.nc = get_cfg(), 10
    return module


@pytest.mark.parametrize("name", ["yolo11p", "yolo26p", pytest.param("rtdetr-l", marks=pytest.mark.slow)])
def test_losses_gradients_and_statistics_are_the_same(name: str, tiny_digits: Path) -> None:
    """RT-DETR draws random denoising queries in its head: the second pass draws the same ones."""
    batch, found = batch_of(tiny_digits, size=4), []
    for on in (False, True):
        module = student(name)
        torch.manual_seed(0)
        if on:
            with checkpointed(module.model):
                loss, _ = module.loss(batch)
        else:
            loss, _ = module.loss(batch)
        loss.sum().backward()  # outside the block: what it needs, it remembers
        found.append((loss.detach(), module))
    (plain_loss, plain), (loss, module) = found
    assert torch.equal(loss, plain_loss)
    for (key, value), expected in zip(module.named_parameters(), plain.parameters(), strict=True):
        assert (value.grad is None) == (expected.grad is None)
        assert value.grad is None or torch.equal(value.grad, expected.grad), key
    for (key, value), expected in zip(module.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(value, expected), f"{key}: counted twice, or not at all"
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)


def kept_bytes(module: Any, batch: dict[str, Tensor], on: bool) -> int:
    """What stays in memory between the passes: tensors saved for the backward pass, and what enters the layers."""
    kept: dict[int, Tensor] = {parameter.data_ptr(): parameter for parameter in module.parameters()}
    weights = set(kept)

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.data_ptr(), tensor.detach())
        return tensor

    def enters(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        for value in inputs[0] if isinstance(inputs[0], list) else inputs:
            keep(value)

    handles = [layer.register_forward_pre_hook(enters) for layer in module.model] if on else []
    switch = Checkpointing()
    if on:
        switch.on(module.model)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        module.loss(batch)
    switch.off()
    for handle in handles:
        handle.remove()
    return sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in weights)


def test_it_keeps_less(tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits, size=8)
    without, with_it = (kept_bytes(student("yolo11p"), batch, on) for on in (False, True))
    assert with_it < 0.35 * without


def test_no_trace_is_left_on_the_student(tiny_digits: Path) -> None:
    module = student("yolo11p")
    before = {name: set(vars(part)) for name, part in module.named_modules()}
    switch = Checkpointing()
    switch.on(module.model)
    assert all("forward" in vars(layer) for layer in module.model)
    switch.on(module.model)  # a batch that failed did not switch it off
    switch.off()
    assert {name: set(vars(part)) for name, part in module.named_modules()} == before
    switch.off()
    assert b"edgekd" not in pickle.dumps(module)


def test_in_eval_mode_nothing_is_computed_twice() -> None:
    module = student("yolo11p").eval()
    calls: list[int] = []
    module.model[3].register_forward_hook(lambda *_: calls.append(1))
    with checkpointed(module.model), torch.no_grad():
        module(torch.rand(1, 3, 64, 64))
    assert calls == [1]


def test_first_steps_measure_gradients_and_train_with_them(tiny_digits: Path) -> None:
    """Several backward passes go through one forward pass, taps inside the head included."""
    batch = batch_of(tiny_digits, size=4)
    reports = []
    for on in (False, True):
        module = module_of({"pkd": {}, "fitnet": {"taps": "head_cls"}, "logit": {}})
        switch = Checkpointing()
        if on:
            switch.on(module.student.model)
        for _ in range(3):
            loss, _ = module(batch)
            loss.sum().backward()
        switch.off()
        reports.append((module.balance.report(), {key: value.grad for key, value in module.named_parameters()}))
    assert reports[0][0] == reports[1][0]
    for key, value in reports[0][1].items():
        found = reports[1][1][key]
        assert (value is None and found is None) or torch.equal(value, found), key


def trained(data: Path, folder: Path, own: OwnArguments, distilling: bool) -> dict[str, Tensor]:
    """The student after an epoch of the engine's training."""
    asked = replace(plan(data, distillers=methods(pkd={}, ld={}) if distilling else (), nbs=8), own=own)
    trainer = make_trainer(asked, teachers() if distilling else {}, folder)
    trainer.validate = lambda: ({}, 0.0)
    trainer.final_eval = lambda: None
    trainer.train()
    return dict(getattr(trainer.model, "student", trainer.model).state_dict())


@pytest.mark.parametrize("distilling", [False, True], ids=["control", "distilled"])
def test_a_training_gives_the_same_weights(distilling: bool, tiny_digits: Path, tmp_path: Path) -> None:
    without, with_it = (trained(tiny_digits, tmp_path, own, distilling) for own in (OwnArguments(), SWITCHED_ON))
    assert without.keys() == with_it.keys()
    assert [key for key, value in without.items() if not torch.equal(value, with_it[key])] == []


def test_the_student_file_knows_nothing_of_it(tiny_digits: Path, tmp_path: Path) -> None:
    fit(replace(plan(tiny_digits, distillers=methods(pkd={})), own=SWITCHED_ON), teachers(), tmp_path, "student")
    assert state(tmp_path / "student.pt")
    assert b"edgekd" not in (tmp_path / "student.pt").read_bytes()


def test_the_engine_trains_with_it_and_averages_without(tiny_digits: Path, tmp_path: Path) -> None:
    asked = replace(plan(tiny_digits, distillers=methods(pkd={}), nbs=8, warmup_epochs=0.0), own=SWITCHED_ON)
    trainer = make_trainer(asked, teachers(), tmp_path)
    seen: list[tuple[str, bool, bool]] = []

    def note(when: str) -> None:
        student, average = trainer.model.student, trainer.ema.ema
        seen.append((when, *(any("forward" in vars(part) for part in each.modules()) for each in (student, average))))

    def after(when: str, original: Any) -> Any:
        def noted() -> Any:
            note(when)
            return original()

        return noted

    trainer.optimizer_step = after("step", trainer.optimizer_step)
    trainer.validate = after("validate", lambda: ({}, 0.0))
    trainer.final_eval = lambda: None
    trainer.train()
    assert seen == [("step", True, False)] * 3 + [("validate", False, False)]
