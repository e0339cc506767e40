"""The engine's training under fake quantisation: what it leaves is a plain student, however often it was stopped."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.detectors.contract import Asked
from edgekd.detectors.ultralytics.detector import UltralyticsDetector
from edgekd.errors import Interrupted
from edgekd.training.engines.build import make_trainer
from edgekd.training.fake_quantization import Grid
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import Teacher
from tests.stages import tiny
from tests.training import children
from tests.training.helpers import SAME_CLASSES, methods, plan

BATCHES = 3  # per epoch


def quantised(data: Path, taught: bool = True, **train: Any) -> tuple[FitPlan, dict[str, Teacher]]:
    """A training that starts from weights, with the float student as the teacher."""
    student = tiny.detector("yolo11p")
    teachers = {"teacher": Teacher(student.frozen(), SAME_CLASSES)} if taught else {}
    made = plan(data, distillers=methods(logit={}) if taught else (), mosaic=0.0, warmup_epochs=0.0, **train)
    return replace(made, student=student, initialised=True, grid=Grid(), compared=True), teachers


def loaded(path: Path) -> dict[str, torch.Tensor]:
    detector = UltralyticsDetector.opened(Asked("yolo11p", path, (), 3, "student"))
    return dict(detector.module.float().state_dict())


@pytest.fixture(scope="module")
def whole(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training of two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    fit(*quantised(tiny_digits, epochs=2), folder, "student")
    return folder


def test_a_plain_student_comes_out(whole: Path, tiny_digits: Path) -> None:
    asked, _ = quantised(tiny_digits)
    before, after = asked.student.module.state_dict(), loaded(whole / "student.pt")
    assert before.keys() == after.keys()
    weights = {name for name, _ in asked.student.module.named_parameters() if ".dfl." not in name}
    assert not [name for name in weights if torch.equal(before[name].half().float(), after[name])], "not trained"
    kept = [name for name in before if "running_" in name]
    assert all(torch.equal(before[name].half().float(), after[name]) for name in kept), "statistics moved"
    assert b"edgekd" not in (whole / "student.pt").read_bytes()
    assert sorted(path.name for path in whole.iterdir()) == [
        "epochs.csv", "first_steps.json", "student.pt", "terms.csv",
    ]  # fmt: skip


def test_stopped_and_gone_on_with(
    whole: Path, tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While ranges are looked at, and once they are frozen: bit for bit the uninterrupted one."""
    original, calls = Resume._before_batch, iter(range(100))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) in (1, 6):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)
    seen = []
    for _ in range(2):
        with pytest.raises(Interrupted):
            fit(*quantised(tiny_digits, epochs=2), tmp_path, "student", Resume(tmp_path / FILE, {}))
        seen.append(torch.load(tmp_path / FILE, weights_only=True)["state"]["fake_quantization"])
    assert [state["batches"] for state in seen] == [1, BATCHES], "frozen after an epoch"
    assert not all(torch.equal(span, seen[0]["spans"][path]) for path, span in seen[1]["spans"].items())
    fit(*quantised(tiny_digits, epochs=2), tmp_path, "student", Resume(tmp_path / FILE, {}))
    assert children.files(tmp_path) == children.files(whole)


@pytest.mark.parametrize("taught", [True, False], ids=["taught", "by labels alone"])
def test_where_it_is_on(taught: bool, tiny_digits: Path, tmp_path: Path) -> None:
    """In the batches and in the validation of the averages; off where checkpoints and states are made."""
    asked, teachers = quantised(tiny_digits, taught=taught, nbs=8)
    trainer = make_trainer(asked, teachers, tmp_path)
    seen: list[tuple[str, bool, bool]] = []

    def after(when: str, original: Any) -> Any:
        def noted(*given: Any) -> Any:
            student = getattr(trainer.model, "student", trainer.model)
            seen.append((when, *(_is_on(each) for each in (student, trainer.ema.ema))))
            return original(*given)

        return noted

    trainer.optimizer_step = after("step", trainer.optimizer_step)
    trainer._validate = after("validate", lambda: ({}, 0.0))
    trainer.save_model = after("save", lambda: None)
    trainer.final_eval = lambda: None
    trainer.train()
    assert seen == [("step", True, False)] * BATCHES + [("validate", False, True), ("save", False, False)]
    assert not _is_on(trainer.ema.ema)
    part = trainer.fake_quantization
    assert part.batches == BATCHES
    assert set(part.counts.values()) == {BATCHES}
    assert not any(_is_on(one.detector.module) for one in teachers.values())


def _is_on(module: Any) -> bool:
    return any("_conv_forward" in vars(part) for part in module.modules())
