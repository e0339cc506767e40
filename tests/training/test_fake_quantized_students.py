"""Students under 8 bits: which layers, what is left of it, and that training under it helps."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from edgekd.training.fake_quantization import FakeQuantization, Grid
from edgekd.training.memory import Checkpointing
from tests.training.helpers import detector
from tests.training.steps import batch_of
from tests.training.test_fake_quantization import Layers, Tiny


class TestOnAStudent:
    @pytest.mark.parametrize(("name", "branches"), [("yolo11p", 1), ("yolo26p", 2)])
    def test_which_convolutions(self, name: str, branches: int) -> None:
        student = detector(name)
        every = {path for path, part in student.module.named_modules() if isinstance(part, nn.Conv2d)}
        assert every - set(student.quantisable()) == ({"model.23.dfl.conv"} if name == "yolo11p" else set())
        left_out = set(student.quantisable()) - set(student.quantisable(float_predictions=True))
        assert len(left_out) == 2 * 3 * branches  # scores and boxes of three levels
        assert all(path.rsplit(".", 1)[-1] == "2" and path.startswith("model.23.") for path in left_out)

    def test_no_trace_is_left(self) -> None:
        student = detector("yolo11p").module.train()
        before = {name: set(vars(part)) for name, part in student.named_modules()}
        part = FakeQuantization()
        part.on(Layers(student))
        assert "_conv_forward" in vars(student.model[0].conv)
        part.on(Layers(student))  # a batch that failed did not switch it off
        part.off()
        assert {name: set(vars(part)) for name, part in student.named_modules()} == before
        assert all(each.training for each in student.modules())
        part.off()
        assert b"edgekd" not in pickle.dumps(student)

    @pytest.mark.parametrize("frozen", [True, False])
    def test_batch_norms(self, frozen: bool) -> None:
        student, part = Tiny().train(), FakeQuantization(Grid(frozen_norms=frozen))
        norm: Any = student.model[1]
        before = norm.running_mean.clone()
        part.on(Layers(student), observing=True)
        student(torch.rand(2, 2, 5, 5)).sum().backward()
        part.end_batch()
        assert torch.equal(norm.running_mean, before) is frozen
        assert norm.training
        assert norm.weight.grad is not None

    def test_half_precision(self) -> None:
        student, part = Tiny().train(), FakeQuantization()
        images = torch.rand(2, 2, 5, 5)
        part.on(Layers(student), observing=True)
        plain = student(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = student(images)
        part.end_batch()
        assert mixed.dtype == torch.bfloat16
        assert_close(mixed.float(), plain, atol=0.02, rtol=0.02)

    def test_with_activation_checkpointing(self, tiny_digits: Path) -> None:
        """The second pass quantises as the first did, and its ranges do not count."""
        from ultralytics.cfg import get_cfg

        batch, found = batch_of(tiny_digits, size=4), []
        for memory in (False, True):
            student = copy.deepcopy(detector("yolo11p").module).train().requires_grad_(True)
            student.args, student.nc = get_cfg(), 10
            part, switch = FakeQuantization(), Checkpointing()
            for _ in range(2):
                if memory:
                    switch.on(student.model)
                part.on(Layers(student), observing=True)
                loss, _ = student.loss(batch)
                loss.sum().backward()
                part.end_batch()
                switch.off()
            found.append((part, {name: value.grad for name, value in student.named_parameters()}))
        (plain, gradients), (saving, others) = found
        assert plain.counts == saving.counts
        assert set(plain.counts.values()) == {2}
        assert all(torch.equal(value, saving.spans[path]) for path, value in plain.spans.items())
        for name, value in gradients.items():
            assert value is None or torch.equal(value, others[name]), name


class Loud(nn.Module):
    """One channel of each map is thirty times as loud as the others, which then get few of the 256 levels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        norms = [nn.BatchNorm2d(16), nn.BatchNorm2d(16)]
        for norm in norms:
            norm.weight.data[0] *= 30
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 3, bias=False), norms[0], nn.SiLU(),
            nn.Conv2d(16, 16, 3, bias=False), norms[1], nn.SiLU(), nn.Conv2d(16, 4, 1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.model(images)
        return result


def test_training_under_it_lowers_its_error() -> None:
    """A student learns to give, quantised, what it gave in float: on images that it was not trained on, too."""
    teacher = Loud().eval()
    student, part = copy.deepcopy(teacher), FakeQuantization()
    torch.manual_seed(1)
    unseen = torch.randn(32, 3, 8, 8)
    part.on(Layers(student), observing=True)
    student(torch.randn(32, 3, 8, 8))
    part.end_batch()

    def error(images: Tensor) -> Tensor:
        with part.of(Layers(student)):
            return nn.functional.mse_loss(student(images), teacher(images).detach())

    before = error(unseen).item()
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    calming = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, 200)
    for _ in range(200):
        optimizer.zero_grad()
        error(torch.randn(32, 3, 8, 8)).backward()
        optimizer.step()
        calming.step()
    assert error(unseen).item() < 0.8 * before
