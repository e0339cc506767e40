"""A method's own module is trained once, before any student, by the engine; then it never changes."""

from __future__ import annotations

import copy
import csv
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.distill import contract
from edgekd.errors import Interrupted
from edgekd.training import fit as fit_module
from edgekd.training import preparation
from edgekd.training.distillation import DistillationModule
from edgekd.training.distillers import build_distillers
from edgekd.training.fit import fit
from edgekd.training.preparation import ARGUMENTS, PreparedPart
from edgekd.training.resume import FILE, Resume
from tests.training.absorbing import Absorbing, AbsorbingConfig
from tests.training.helpers import plan, teachers

CHOSEN = (("absorbing", AbsorbingConfig()),)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Absorbing, "name", "absorbing", raising=False)
    monkeypatch.setitem(contract._REGISTRY, "absorbing", Absorbing)


def part(seed: int = 4) -> PreparedPart:
    tutor = teachers()["teacher"]
    torch.manual_seed(seed)
    (method,) = build_distillers(CHOSEN, tutor.spec, {"teacher": tutor})
    return PreparedPart(method, tutor, tutor.spec, seed)


def prepared(data: Path, folder: Path, resume: Resume | None = None) -> Path:
    """Train it, as the stage does."""
    chosen = part()
    train = {"imgsz": 64, "batch": 8, "mosaic": 0.0, **ARGUMENTS, **chosen._method.preparation().train}
    made = replace(
        plan(data), student=chosen, train=train, head=None, compared=True, validated=False, file=preparation.FILE
    )
    return fit(made, {}, folder, "absorbing", resume).weights


@pytest.fixture(scope="module")
def weights(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Absorbing, "name", "absorbing", raising=False)
        patch.setitem(contract._REGISTRY, "absorbing", Absorbing)
        return prepared(tiny_digits, tmp_path_factory.mktemp("prepared"))


def test_it_learns(weights: Path) -> None:
    left, before = preparation.read(weights), part().module.part.state_dict()  # type: ignore[union-attr, operator]
    assert left.keys() == before.keys()
    assert all(not torch.equal(value, before[name]) for name, value in left.items())
    losses = [float(row["class"]) for row in csv.DictReader((weights.parent / "epochs.csv").open())]
    assert len(losses) == AbsorbingConfig().epochs
    assert losses[-1] < losses[0]
    assert {path.name for path in weights.parent.iterdir()} == {"epochs.csv", "prepared.safetensors"}


def test_a_stopped_one_goes_on(
    tiny_digits: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, the method's own random numbers included."""
    original, calls = Resume._before_batch, iter(range(1000))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) in (2, 5):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)
    for _ in range(2):
        with pytest.raises(Interrupted):
            prepared(tiny_digits, tmp_path, Resume(tmp_path / FILE, {}, minutes=60))
    found = prepared(tiny_digits, tmp_path, Resume(tmp_path / FILE, {}, minutes=60))
    assert found.read_bytes() == weights.read_bytes()
    assert (tmp_path / "epochs.csv").read_text() == (weights.parent / "epochs.csv").read_text()


def test_the_student_learns_through_it(tiny_digits: Path, tmp_path: Path, weights: Path) -> None:
    kept: list[Any] = []
    original = fit_module.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "make_trainer", lambda *given: kept.append(original(*given)) or kept[0])
        fit(replace(plan(tiny_digits, distillers=CHOSEN), prepared={"absorbing": weights}), teachers(), tmp_path, "x")
    module = kept[0].model
    assert isinstance(module, DistillationModule)
    (method,) = module.distillers
    after = method.judge._module.state_dict()  # type: ignore[union-attr]
    left = preparation.read(weights)
    assert all(torch.equal(value, left[name]) for name, value in after.items())
    assert {name.partition(".")[0] for name, _ in method.named_parameters()} == {"adapter"}
    assert copy.deepcopy(method).judge is method.judge
    assert not [name for name in module.state_dict() if "judge" in name]
