"""Students whose network is none of the engine's: trained by the engine's loop, in a shell."""

from __future__ import annotations

import copy
import csv
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.class_map import ClassMap
from edgekd.detectors.contract import Asked
from edgekd.errors import Interrupted
from edgekd.training.engines.build import make_trainer
from edgekd.training.engines.shell import EngineShell, detector_in, network_of, student_of, unservable
from edgekd.training.fake_quantization import Grid
from edgekd.training.fit import fit
from edgekd.training.plan import FitPlan
from edgekd.training.resume import FILE, Resume
from edgekd.training.teacher import Teacher
from tests.detectors.toy import ToyDetector, ToyFamily
from tests.ports import free_port
from tests.training import helpers
from tests.training.helpers import methods

DISTILLERS = methods(pkd={}, logit={})


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    families.family_names()  # the built-in ones first
    monkeypatch.setitem(families._REGISTRY, "toy", ToyFamily())
    yield


def detector(seed: int = 1) -> ToyDetector:
    torch.manual_seed(seed)
    return ToyDetector.made(CLASS_NAMES, 3)


def plan(data: Path, distillers: Any = (), **train: Any) -> FitPlan:
    return replace(helpers.plan(data, distillers=distillers, **train), student=detector(), head="one2many")


def teachers() -> dict[str, Teacher]:
    return {"teacher": Teacher(detector(seed=2).frozen(), ClassMap.identity(len(CLASS_NAMES)))}


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open()))


def test_a_control_is_trained(tiny_digits: Path, tmp_path: Path) -> None:
    result = fit(plan(tiny_digits, epochs=2), {}, tmp_path, "training")
    assert result.weights == tmp_path / "student.safetensors"
    assert {path.name for path in tmp_path.iterdir()} == {"student.safetensors", "epochs.csv"}
    first, second = rows(tmp_path / "epochs.csv")
    assert float(second["cls_loss"]) < float(first["cls_loss"])
    assert {"box_loss", "val_cls_loss", "ap", "lr"} <= set(first)
    opened = families.open_detector("toy", Asked(None, result.weights, (), 3, "test"))
    assert opened.spec.class_names == CLASS_NAMES
    assert not torch.equal(opened.module.stem[0][0].weight, detector().module.stem[0][0].weight)  # type: ignore[index]


def test_a_student_is_distilled(tiny_digits: Path, tmp_path: Path) -> None:
    fit(plan(tiny_digits, DISTILLERS), teachers(), tmp_path, "distilling")
    assert {row["term"] for row in rows(tmp_path / "terms.csv")} == {"detection", "pkd.feature", "logit.class"}
    assert (tmp_path / "student.safetensors").is_file()


def test_one_that_is_stopped_ends_as_the_uninterrupted_one(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(plan(tiny_digits, DISTILLERS), teachers(), tmp_path / "whole", "distilling")
    original, calls = Resume._before_batch, iter(range(1_000_000))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)
    folder = tmp_path / "stopped"
    with pytest.raises(Interrupted, match="batch 2 of 3"):
        fit(plan(tiny_digits, DISTILLERS), teachers(), folder, "distilling", Resume(folder / FILE, {}, 60))
    fit(plan(tiny_digits, DISTILLERS), teachers(), folder, "distilling", Resume(folder / FILE, {}, 60))
    for name in ("student.safetensors", "terms.csv", "epochs.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_ranks_end_with_the_same_student(tiny_digits: Path, tmp_path: Path) -> None:
    """Each sees images of its own; gradients are averaged, rank 0 alone writes."""
    port = free_port()
    command = [sys.executable, "-m", "tests.training.engines.shell_ranks", str(tiny_digits)]
    processes = [
        subprocess.Popen([*command, str(tmp_path / f"{rank}.pt"), str(rank), str(port)], cwd=Path(__file__).parents[3])
        for rank in range(2)
    ]
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    assert not torch.equal(first["weights"]["stem.0.0.weight"], detector().module.stem[0][0].weight)  # type: ignore[index]
    assert first["losses"] != second["losses"]
    assert (first["saved"], second["saved"]) == (True, False)


def test_one_is_trained_under_fake_quantisation(tiny_digits: Path, tmp_path: Path) -> None:
    quantised = replace(plan(tiny_digits, mosaic=0.0), initialised=True, grid=Grid())
    assert fit(quantised, {}, tmp_path, "training").weights.is_file()


def test_habits_of_the_family(tiny_digits: Path, tmp_path: Path) -> None:
    trainer = make_trainer(plan(tiny_digits, epochs=4, lrf=0.25), {}, tmp_path)
    trainer._setup_train()
    assert [trainer.lf(epoch) for epoch in range(4)] == [1.0, 1.0, 0.25, 0.25]
    assert trainer.ema.decay(2000) == pytest.approx(0.9 * (1 - math.exp(-1)))
    theirs = make_trainer(helpers.plan(tiny_digits, epochs=4, lrf=0.25), {}, tmp_path)
    theirs._setup_train()
    assert [theirs.lf(epoch) for epoch in (0, 2, 4)] == pytest.approx([1.0, 0.625, 0.25])
    assert theirs.ema.decay(2000) == pytest.approx(0.9999 * (1 - math.exp(-1)))


def test_what_the_engine_sees() -> None:
    student = detector()
    shell = network_of(student, CLASS_NAMES)
    assert isinstance(shell, EngineShell)
    assert (shell.nc, shell.names[0]) == (len(CLASS_NAMES), CLASS_NAMES[0])
    assert float(shell.stride.max()) == student.spec.size_multiple
    assert dict(shell.named_parameters()).keys() == {f"network.{name}" for name, _ in student.module.named_parameters()}
    assert student_of(shell) is student.module
    assert detector_in(shell) is student
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found = shell.eval()(images)
        boxes, scores = student.export_module()(images)
    assert found.shape == (2, 4 + len(CLASS_NAMES), boxes.shape[1])
    torch.testing.assert_close(found[:, :2], ((boxes[..., :2] + boxes[..., 2:]) / 2).transpose(1, 2))
    torch.testing.assert_close(found[:, 2:4], (boxes[..., 2:] - boxes[..., :2]).transpose(1, 2))
    torch.testing.assert_close(found[:, 4:], scores.transpose(1, 2))


def test_a_copy_is_around_its_own_network() -> None:
    shell = network_of(detector(), CLASS_NAMES)
    twin = copy.deepcopy(shell)
    assert isinstance(twin, EngineShell)
    assert twin.detector.module is twin.network
    assert twin.network is not shell.network


def test_networks_of_the_engine_are_trained_as_they_are() -> None:
    student = helpers.detector("yolo11p")
    assert network_of(student, CLASS_NAMES) is student.module
    assert student_of(student.module) is student.module
    assert unservable(student, {"freeze": 3, "compile": True}) == []


def test_arguments_that_are_of_the_engines_networks() -> None:
    assert unservable(detector(), {"optimizer": "AdamW", "epochs": 3}) == []
    assert unservable(detector(), {"freeze": 3, "compile": False}) == [
        "train.freeze: counts layers of the engine's own networks, and the student is of family toy; leave it out",
        "train.optimizer: auto is for the engine's own networks; write AdamW or SGD",
    ]
