"""One real training step of the methods on regions: a trained teacher, a fresh student, digits of 64 px."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.steps import batch_of, module_of, step

REGIONS: dict[str, dict[str, Any]] = {
    "mimic": {}, "gid": {}, "dsig": {}, "gdetkd": {}, "head_assistant": {"width": 64, "regions": 32},
}  # fmt: skip


def test_all_together_in_one_step(tiny_digits: Path) -> None:
    module = module_of(REGIONS)
    found = step(module, batch_of(tiny_digits))
    assert sorted(name for name in found.terms if name.startswith("kd/")) == [
        "kd/dsig.background", "kd/dsig.edge", "kd/dsig.foreground", "kd/gdetkd.contrast", "kd/gdetkd.imitation",
        "kd/gid.box", "kd/gid.class", "kd/gid.feature", "kd/gid.relation", "kd/head_assistant.box",
        "kd/head_assistant.class", "kd/mimic.feature",
    ]  # fmt: skip
    assert all(value.isfinite() and value >= 0 for value in found.terms.values())
    assert found.total.isfinite() and all(value.isfinite().all() for value in found.gradients.values())
    assert (found.buffers["distillers.3.memory.steps"] == 0).any()  # the first step is remembered
    assert "distillers.3.memory.vectors" in module.state_dict()


def test_mixed_precision_gives_nearly_the_same(tiny_digits: Path) -> None:
    """Regions are chosen by labels and the teacher, whose choice bfloat16 does not change here."""
    chosen = {name: {"regions": "ground_truth"} for name in ("mimic", "gdetkd")}
    batch = batch_of(tiny_digits)
    full, half = (step(module_of(chosen), batch, amp=amp).terms for amp in (None, torch.bfloat16))
    for name in ("kd/mimic.feature", "kd/gdetkd.imitation", "kd/gdetkd.contrast"):
        assert half[name].item() == pytest.approx(full[name].item(), rel=0.05)


def test_a_batch_without_objects(tiny_digits: Path) -> None:
    batch = batch_of(tiny_digits, size=2)
    empty = {**batch, "cls": batch["cls"][:0], "bboxes": batch["bboxes"][:0], "batch_idx": batch["batch_idx"][:0]}
    found = step(module_of(REGIONS), empty)
    assert found.total.isfinite() and all(value.isfinite().all() for value in found.gradients.values())
    assert found.terms["kd/mimic.feature"] == found.terms["kd/dsig.foreground"] == 0


def test_no_teacher_runs_for_a_method_of_labels_alone(tiny_digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of({"head_assistant": {"width": 64, "regions": 32}})

    def forward(*_: Any) -> None:
        raise AssertionError("the teacher was run")

    monkeypatch.setattr(module.source.teachers[0], "forward", forward)
    assert step(module, batch_of(tiny_digits)).terms["kd/head_assistant.class"] > 0
