"""Methods of one recipe together: one pass of each model, one map of each tap, and what each would give alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgekd.distill.contract import distiller_type
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.teacher import Teacher
from tests.training.helpers import SAME_CLASSES, detector
from tests.training.steps import batch_of, trained

METHODS = ("pkd", "fgd", "frs", "ssim", "logit")


def module_of(*methods: str) -> DistillationModule:
    from ultralytics.cfg import get_cfg

    torch.manual_seed(0)
    student = detector("yolo11p")
    student.module.args = get_cfg()
    teacher = Teacher(trained().frozen(), SAME_CLASSES)
    chosen = [(name, distiller_type(name).config_type()) for name in methods]
    parts = []
    for entry in chosen:  # adapters of a method do not depend on those before it
        torch.manual_seed(1)
        parts += build_distillers([entry], student.spec, {"teacher": teacher})
    module = DistillationModule(student, student.module, parts, [teacher] * len(parts), epochs=4, seed=0)
    module.train().requires_grad_(True)
    return module


@contextmanager
def counted(**sides: nn.Module) -> Iterator[Counter[str]]:
    """Count every call of every layer, by `side:path`."""
    calls: Counter[str] = Counter()
    with ExitStack() as stack:
        for side, module in sides.items():
            for path, layer in module.named_modules():
                hook = layer.register_forward_hook(lambda *_, key=f"{side}:{path}": calls.update([key]))
                stack.callback(hook.remove)
        yield calls


def test_five_methods_run_each_model_once_and_read_each_tap_once(tiny_digits: Path) -> None:
    module = module_of(*METHODS)
    teacher: Any = module.source.teachers[0]
    taps = [tap.key for part in module.distillers for tap in part.wiring.teacher.taps]
    assert len(taps) == 4 * len(set(taps)) == 12, "four of the five read the three levels of the neck"
    with counted(student=module.student, teacher=teacher.detector.module) as calls:
        module(batch_of(tiny_digits))
    for side in ("student", "teacher"):
        own = {key: count for key, count in calls.items() if key.startswith(f"{side}:")}
        assert all(own[f"{side}:{tap}"] == 1 for tap in set(taps))
        first = [count for key, count in own.items() if key == f"{side}:model.0"]
        assert first == [1]


def test_each_gives_what_it_gives_alone(tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits)
    _, together = module_of(*METHODS)(batch)
    for name in METHODS:
        _, alone = module_of(name)(batch)
        terms = {key: value.item() for key, value in alone.items() if key.startswith("kd/")}
        assert terms and all(together[key].item() == pytest.approx(value, rel=1e-5) for key, value in terms.items())


def test_a_rectangular_batch_without_any_object_is_finite() -> None:
    """Of every method on the neck that draws boxes on levels, in one step."""
    module = module_of("fgfi", "defeat", "fgd", "cskd", "gkd")
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    none = {"cls": torch.zeros(0, 1), "bboxes": torch.zeros(0, 4), "batch_idx": torch.zeros(0)}
    loss, items = module({"img": images, **none})
    loss.sum().backward()
    assert loss.isfinite().all() and all(value.isfinite().all() for value in items.values())
    assert {key: value.item() for key, value in items.items() if key in ("kd/fgfi.feature", "kd/fgd.foreground")} == {
        "kd/fgfi.feature": 0.0,
        "kd/fgd.foreground": 0.0,
    }
    used = [value.grad for value in module.distillers.parameters() if value.grad is not None]
    assert used and all(gradient.isfinite().all() for gradient in used)
