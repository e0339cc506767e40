"""One real training step of the methods on regions: a trained teacher, a fresh student, digits of 64 px."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.errors import Interrupted
from edgekd.training.fit import fit
from edgekd.training.resume import FILE, Resume
from tests.training.children import files
from tests.training.helpers import methods, plan, teachers
from tests.training.steps import batch_of, module_of, step
from tests.training.test_resume import stop_before

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


@pytest.mark.slow
def test_a_memory_goes_on_after_a_stop(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before its last batch, a training ends as the uninterrupted one: bit for bit."""
    chosen = methods(gdetkd={"memory": 16, "regions": "ground_truth"})  # full before the stop

    def train(folder: Path) -> dict[str, bytes]:
        resume = Resume(folder / FILE, {"test": 1}, 60)
        fit(plan(tiny_digits, distillers=chosen, epochs=1, nbs=8), teachers(), folder, "student", resume)
        return files(folder)

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    expected = train(tmp_path / "whole")
    stop_before({2}, monkeypatch)  # of three batches
    with pytest.raises(Interrupted):
        train(tmp_path / "parts")
    saved = torch.load(tmp_path / "parts" / FILE, weights_only=True)["state"]["model"]
    assert saved["distillers.0.memory.steps"].max() >= 0
    assert train(tmp_path / "parts") == expected
