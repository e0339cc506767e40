"""Methods look at the data before each epoch: what they see, and that the training does not notice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekd.detectors.capture import run
from edgekd.detectors.spec import Needs
from edgekd.distill import contract
from edgekd.distill.contract import Distiller, Moment, Observation, Survey
from edgekd.errors import Interrupted
from edgekd.training import fit as fit_module
from edgekd.training.distillation import DistillationModule
from edgekd.training.fit import fit
from edgekd.training.resume import FILE, Resume
from tests.training import surveying
from tests.training.helpers import methods, plan, teachers
from tests.training.surveying import Surveying

IMAGES = 24  # of the tiny data set's train split
TRAIN: dict[str, Any] = {"epochs": 3, "batch": 8, "nbs": 8, "mosaic": 1.0, "close_mosaic": 1}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(contract._REGISTRY, "surveying", Surveying)
    surveying.register()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != FILE}


def trained(data: Path, folder: Path, chosen: Any, resume: Resume | None = None, **train: Any) -> DistillationModule:
    """The module at the end of a training."""
    kept: list[Any] = []
    original = fit_module.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_module, "make_trainer", lambda *given: kept.append(original(*given)) or kept[0])
        fit(plan(data, distillers=chosen, **{**TRAIN, **train}), teachers(), folder, "student", resume)
    module = kept[0].model
    assert isinstance(module, DistillationModule)
    return module


def test_the_training_does_not_notice(tiny_digits: Path, tmp_path: Path) -> None:
    """A mosaic's images in memory, random states, batch norms: the student is that of a training without a survey."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Surveying, "surveys", False)
        trained(tiny_digits, tmp_path / "without", surveying.register())
    looked = trained(tiny_digits, tmp_path / "with", surveying.register())
    assert files(tmp_path / "with") == files(tmp_path / "without")
    (part,) = looked.distillers
    assert (float(part.looks), part.ids.tolist()) == (TRAIN["epochs"], list(range(IMAGES)))
    assert part.means.std(0).min() > 0


@pytest.mark.slow
def test_an_interrupted_training_looks_once_per_epoch(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first batch of an epoch, in its middle, and behind it."""
    whole = trained(tiny_digits, tmp_path / "whole", surveying.register())
    original, calls = Resume._before_batch, iter(range(1000))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) in (0, 4, 7, 10):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)
    stops = 0
    while True:
        try:
            resume = Resume(tmp_path / "parts" / FILE, {}, minutes=60)
            parts = trained(tiny_digits, tmp_path / "parts", surveying.register(), resume)
        except Interrupted:
            stops += 1
        else:
            break
    assert stops == 4
    resume.remove()
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    for name, value in whole.distillers.state_dict().items():
        assert torch.equal(value, parts.distillers.state_dict()[name]), name


class Keeping(Surveying):
    """Keeps all that it sees."""

    seen: list[Observation]

    def epoch_began(self, moment: Moment, survey: Survey) -> None:
        type(self).seen = list(survey)
        assert len(survey) == IMAGES
        assert [item.batch.size for item in survey] == [8, 8, 8], "it can be gone through again"


def test_what_is_seen(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = surveying.register()
    monkeypatch.setattr(Keeping, "name", "surveying", raising=False)
    monkeypatch.setitem(contract._REGISTRY, "surveying", Keeping)
    module = trained(tiny_digits, tmp_path, chosen, epochs=1, lr0=1e-9, optimizer="SGD")
    (part,) = module.distillers
    assert isinstance(part, Distiller)
    names = sorted((tiny_digits.parent / "images" / "train").iterdir())
    first = Keeping.seen[0]
    assert first.batch.view.image_ids.tolist() == list(range(8))
    assert not first.student.taps[part.ours.key].requires_grad
    for place in (0, 5):
        image = np.asarray(Image.open(names[place]).convert("RGB"), np.float32) / 255
        np.testing.assert_allclose(first.batch.images[place].permute(1, 2, 0).numpy(), image, atol=1e-6)  # 64 px
        labels = np.loadtxt(tiny_digits.parent / "labels" / "train" / f"{names[place].stem}.txt", ndmin=2)
        mine = first.batch.image_index == place
        assert first.batch.class_ids[mine].tolist() == labels[:, 0].tolist()
        corners = np.concatenate([labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2], 1) * 64
        np.testing.assert_allclose(first.batch.boxes_px[mine].numpy(), corners, atol=1e-3)
    assert first.batch.view.content_px.tolist() == [[0, 0, 64, 64]] * 8
    student = module._holder[0]
    student.module.eval()  # steps were too small to move it, but for its batch norms: the teacher's maps stay exact
    theirs = run(module.source.teachers[0].detector, first.batch.images, Needs((part.theirs,)))  # type: ignore[attr-defined]
    torch.testing.assert_close(first.knowledge[part.theirs.key], theirs.taps[part.theirs.key], rtol=1e-4, atol=1e-5)
    assert first.student.dense == {}, "the assignment is of a training pass alone"


def test_a_method_that_has_ended_does_not_look(tiny_digits: Path, tmp_path: Path) -> None:
    config = contract.distiller_type("surveying").config_type(schedule={"until_epoch": 2})
    module = trained(tiny_digits, tmp_path, (("surveying", config),), epochs=3)
    (part,) = module.distillers
    assert float(part.looks) == 2


def test_others_cost_nothing(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split is not even listed."""
    monkeypatch.setattr("edgekd.training.engines.trainer.train_images", lambda *_: pytest.fail("listed"))
    trained(tiny_digits, tmp_path, methods(pkd={}), epochs=1)
