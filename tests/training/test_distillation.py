"""Student and methods as one module: what of the student shows through it, and what its state is."""

from __future__ import annotations

import pytest
import torch

from edgekd.training.distillation import unwrapped
from tests.training.steps import module_of


def test_what_the_engine_reads_is_the_students_and_nothing_else() -> None:
    module = module_of({"pkd": {}})
    for name in ("stride", "names", "args", "yaml"):
        assert getattr(module, name) is getattr(module.student, name)
    assert module.set_head_attr == module.student.set_head_attr
    assert module.student_model is module.student
    for name in ("model", "strides", "save", "end2end"):  # the student's own, or of nobody
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)


def test_a_state_dict_is_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading one does not wait for what was logged."""
    module = module_of({"pkd": {}})
    monkeypatch.setattr(module.balance, "flush", lambda: pytest.fail("flushed"))
    assert all(torch.is_tensor(value) for value in module.state_dict().values())


def test_wrappers_come_off() -> None:
    module = module_of({"pkd": {}})
    compiled = torch.nn.Module()
    compiled._orig_mod = torch.nn.Module()
    compiled._orig_mod.module = module
    assert unwrapped(compiled) is module
    assert unwrapped(module) is module
