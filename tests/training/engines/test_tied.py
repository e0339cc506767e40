"""Weights that layers share: one step and one part in the average, whatever the number of their names."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.shell import student_of
from edgekd.training.engines.tied import averaged_once, stepped_once
from tests.training import helpers

# The engine's own networks share nothing.
MODELS = {
    "yolo11p": False, "rtdetr-p": False, "rtmdet-p": True, "rt-detr-p": False, "rt-detr-v2-p": True, "dfine-p": True,
    "deimv2-p": True,
}  # fmt: skip


def tied() -> nn.Sequential:
    """Two layers with one weight of 1, as two modules, and biases of 0."""
    made = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    made[1].weight = made[0].weight
    for value, parameters in ((1.0, [made[0].weight]), (0.0, [made[0].bias, made[1].bias])):
        for one in parameters:
            nn.init.constant_(one, value)
    return made


def test_a_shared_weight_is_stepped_once() -> None:
    """At 0.1 times a gradient of 2: from 1 to 0.8; listed twice it would go to 0.6."""
    network = tied()
    weights = [one.weight for one in network]
    weights[0].grad = torch.full((1, 1), 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = stepped_once(lambda: torch.optim.SGD([{"params": weights}, {"params": [network[0].bias]}], lr=0.1))
    optimizer.step()
    assert weights[0].item() == pytest.approx(0.8)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


def test_a_shared_weight_is_averaged_once() -> None:
    """A quarter of the way from 0 to 1, and buffers likewise; whole numbers are left alone."""
    average, model = tied(), tied()
    nn.init.zeros_(average[0].weight)
    for one, value in ((average, 4.0), (model, 8.0)):
        one.register_buffer("mean", torch.tensor(value))
        one.register_buffer("count", torch.tensor(int(value)))
    made: Any = SimpleNamespace(ema=average, updates=6, decay=lambda updates: 0.75 if updates == 7 else 0.0)
    averaged_once(made)
    made.update(model)
    assert (average[1].weight.item(), average.mean.item(), average.count.item(), made.updates) == (0.25, 5.0, 4, 7)


def test_an_average_of_a_network_that_shares_nothing_stays_as_it_is() -> None:
    made: Any = SimpleNamespace(ema=nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)))
    averaged_once(made)
    assert not hasattr(made, "update")


@pytest.mark.parametrize("model", MODELS)
def test_of_every_family_of_students(model: str, tiny_digits: Path, tmp_path: Path) -> None:
    family = families.meant(model, None)
    assert family is not None
    if missing := families.family(family).missing():
        pytest.skip(missing)
    student = families.trainable(
        families.open_detector(family, Asked(model, None, CLASS_NAMES, 3, "student")), "student"
    )
    plan = replace(helpers.plan(tiny_digits, optimizer="AdamW"), student=student, head=None)
    trainer = make_trainer(plan, {}, tmp_path)
    trainer._setup_train()
    stepped = [id(one) for group in trainer.optimizer.param_groups for one in group["params"]]
    learning = {id(one) for one in student_of(trainer.model).parameters() if one.requires_grad}
    assert len(stepped) == len(set(stepped)) and learning <= set(stepped)

    network, average = student_of(trainer.model), student_of(trainer.ema.ema)
    before = {name: value.clone() for name, value in average.named_parameters()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    trainer.ema.decay = lambda _: 0.75
    trainer.ema.update(trainer.model)
    for name, value in average.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.25, msg=name)
    assert (len(list(network.named_parameters(remove_duplicate=False))) > len(before)) == MODELS[model]
