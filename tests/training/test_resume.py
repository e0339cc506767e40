"""A training that is stopped, in whatever way, and started again ends as the uninterrupted one: bit for bit."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekd.errors import DivergedError, EnvironmentFault, InputError, Interrupted
from edgekd.training import resume as resume_module
from edgekd.training.fit import fit
from edgekd.training.resume import FILE, Resume
from tests.training import children
from tests.training.helpers import methods, plan, teachers

BATCHES = 3  # per epoch


@pytest.fixture(scope="module")
def uninterrupted(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training that nothing stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    children.train(tiny_digits, folder)
    return folder


@pytest.fixture(scope="module")
def expected(uninterrupted: Path) -> dict[str, bytes]:
    """Its files."""
    return children.files(uninterrupted)


def stop_before(batches: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM arrives before these calls between two batches, counted over all processes."""
    original, calls = Resume._before_batch, iter(range(1_000_000))

    def before_batch(self: Resume, trainer: Any) -> None:
        if next(calls) in batches:
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)


def test_stopped_again_and_again(
    tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    # per epoch 3 batches and the moment behind them; a stop is met once more when the training goes on from it
    stop_before({0, 3, 6, 9, 11}, monkeypatch)
    places = []
    while not (tmp_path / "student.pt").exists():
        try:
            children.train(tiny_digits, tmp_path)
        except Interrupted as stopped:
            assert stopped.exit_code == 130
            places.append(str(stopped).split(";")[0])
    assert places == [
        "interrupted by SIGTERM in " + place
        for place in (
            "epoch 1, batch 0 of 3", "epoch 1, batch 2 of 3", "epoch 2, batch 0 of 3", "epoch 2, batch 2 of 3",
            "epoch 2, batch 3 of 3",
        )
    ]  # fmt: skip
    assert children.files(tmp_path) == expected


@pytest.mark.slow
def test_twenty_kills(tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """At random moments: while the data is read, in a step, in a save, in the validation, while writing results."""
    draw = random.Random(0)
    kills = finished = 0
    longest_s = 4.0
    while kills < 20:
        folder = tmp_path / str(finished)
        began = time.monotonic()
        process = children.start(tiny_digits, folder)
        process.join(draw.uniform(0.1, longest_s))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert children.files(folder) == expected
            longest_s = min(longest_s, 1.2 * (time.monotonic() - began))
            finished += 1
    children.train(tiny_digits, tmp_path / str(finished))
    assert children.files(tmp_path / str(finished)) == expected


@pytest.mark.parametrize("write", [5, *(pytest.param(one, marks=pytest.mark.slow) for one in (1, 13))])
def test_killed_in_the_middle_of_a_save(
    tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes], write: int
) -> None:
    process = children.start(tiny_digits, tmp_path, killed_at_replace=write)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(f".{FILE}.*.tmp"))) == 1
    children.train(tiny_digits, tmp_path)
    left = children.files(tmp_path)
    assert {name: content for name, content in left.items() if not name.endswith(".tmp")} == expected


def test_sigterm_saves_before_it_ends(tiny_digits: Path, tmp_path: Path) -> None:
    process = children.start(tiny_digits, tmp_path)
    while not (tmp_path / "engine" / "weights").is_dir() and process.is_alive():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 130
    assert torch.load(tmp_path / FILE, weights_only=True)["schema"] == resume_module.SCHEMA


@pytest.mark.slow
def test_a_control_with_two_branches(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end-to-end loss shifts its weights each epoch; MuSGD has a state of its own."""
    work = plan(tiny_digits, "yolo26p", optimizer="MuSGD", epochs=3, batch=8)
    fit(work, {}, tmp_path / "whole", "control")
    stop_before({5, 8}, monkeypatch)
    for _ in range(2):
        with pytest.raises(Interrupted):
            fit(work, {}, tmp_path / "parts", "control")
    fit(work, {}, tmp_path / "parts", "control")
    assert children.files(tmp_path / "parts") == children.files(tmp_path / "whole")


def test_a_stop_while_validating_loses_nothing(
    tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Resume._while_validating

    def stopped(self: Resume, trainer: Any) -> None:
        if trainer.epoch == 1:
            self.stop.signal = "SIGTERM"
        original(self, trainer)

    monkeypatch.setattr(Resume, "_while_validating", stopped)
    with pytest.raises(Interrupted, match="epoch 2, batch 3 of 3"):
        children.train(tiny_digits, tmp_path)
    monkeypatch.undo()
    children.train(tiny_digits, tmp_path)
    assert children.files(tmp_path) == expected


class TestLastGoodState:
    """What ends a training leaves the state that it can go on from."""

    def place(self, folder: Path) -> tuple[int, int]:
        content = torch.load(folder / FILE, weights_only=True)
        assert all(bool(torch.isfinite(value).all()) for value in content["state"]["ema"].values())
        return content["epoch"], content["batch"]

    @pytest.mark.slow
    def test_a_loss_that_is_not_finite(
        self, tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgekd.distill.head.logit import Logit

        original = Logit.terms
        monkeypatch.setattr(
            Logit, "terms",
            lambda self, output, knowledge, batch, moment: {
                key: term * (float("nan") if moment.step == 4 else 1)
                for key, term in original(self, output, knowledge, batch, moment).items()
            },
        )  # fmt: skip
        with pytest.raises(DivergedError, match=r"not finite in epoch 2; lower train\.lr0 or the weights in distill"):
            children.train(tiny_digits, tmp_path, children.EVERY_BATCH)
        assert self.place(tmp_path) == (2, 1)
        monkeypatch.undo()
        children.train(tiny_digits, tmp_path)
        assert children.files(tmp_path) == expected

    def test_an_image_that_vanishes(
        self, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgekd.data.digits import generate

        data = generate(tmp_path / "set", imgsz=64, train=24, val=8, test=8, seed=0)
        images = data.parent / "images" / "train"
        assert images.is_dir()
        original = Resume._before_batch

        def vanish(self: Resume, trainer: Any) -> None:
            if trainer.epoch == 1 and images.is_dir():
                images.rename(tmp_path / "elsewhere")
            original(self, trainer)

        monkeypatch.setattr(Resume, "_before_batch", vanish)
        folder = tmp_path / "run"
        with pytest.raises(InputError, match=r"image of the data set has vanished: put it back"):
            children.train(data, folder, children.EVERY_BATCH)
        assert self.place(folder)[0] == 2
        monkeypatch.undo()
        (tmp_path / "elsewhere").rename(images)
        children.train(data, folder)
        assert children.files(folder) == expected

    def test_a_disk_that_is_full(
        self, tiny_digits: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from edgekd import atomic

        original, calls = os.fsync, iter(range(100))

        def full(descriptor: int) -> None:
            if next(calls) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(descriptor)

        monkeypatch.setattr(atomic.os, "fsync", full)
        with pytest.raises(EnvironmentFault, match="No space left on device"):
            children.train(tiny_digits, tmp_path, children.EVERY_BATCH)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["engine", FILE]
        monkeypatch.undo()
        children.train(tiny_digits, tmp_path)
        assert children.files(tmp_path) == expected


@pytest.mark.slow
def test_going_on_with_another_learning_rate(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of the state; what comes after follows the new recipe."""
    stop_before({5}, monkeypatch)
    with pytest.raises(Interrupted):
        fit(
            plan(tiny_digits, epochs=2, batch=8),
            None,
            tmp_path,
            "x",
            Resume(tmp_path / FILE, {"train": {"lr0": 0.002}}),
        )
    monkeypatch.undo()
    saved = torch.load(tmp_path / FILE, weights_only=True)["state"]
    seen: dict[str, Any] = {}
    original = resume_module.snapshot.restore

    def restore(trainer: Any, *given: Any) -> None:
        original(trainer, *given)
        seen["model"] = {name: value.clone() for name, value in trainer.model.state_dict().items()}

    monkeypatch.setattr(resume_module.snapshot, "restore", restore)
    changed = Resume(tmp_path / FILE, {"train": {"lr0": 0.001}}, allow_changed=True)
    fit(plan(tiny_digits, epochs=3, batch=8, lr0=0.001), {}, tmp_path, "x", changed)
    assert all(torch.equal(value, saved["model"][name]) for name, value in seen["model"].items())
    assert len((tmp_path / "epochs.csv").read_text().splitlines()) == 1 + 3


def test_distillation_is_part_of_the_state(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_before({5}, monkeypatch)
    with pytest.raises(Interrupted):
        children.train(tiny_digits, tmp_path)
    state = torch.load(tmp_path / FILE, weights_only=True)["state"]
    model, progress = state["model"], state["distillation"]
    adapters = [name for name in model if name.startswith("distillers.")]
    assert adapters
    assert progress["step"] == BATCHES + 1
    assert list(progress["weights"]) == ["logit"], "the averages of an automatic weight"
    assert len(progress["weights"]["logit"]["averages"]) == 2
    assert {row["term"] for row in progress["balance"]["rows"]} == {
        "detection", "logit.class", "fitnet.feature",
    }  # fmt: skip
    assert not [name for name in state["ema"] if "distiller" in name]
    students = sum(value.numel() for name, value in model.items() if name.startswith("student."))
    assert students == sum(value.numel() for value in state["ema"].values())
    held = sum(part["exp_avg"].numel() for part in state["optimizer"]["state"].values())
    trained = dict(plan(tiny_digits).student.module.named_parameters())
    expected = sum(value.numel() for name, value in trained.items() if ".dfl." not in name)
    assert held == expected + sum(model[name].numel() for name in adapters if model[name].is_floating_point())


def test_no_teacher_needed_to_finish(
    tiny_digits: Path, tmp_path: Path, uninterrupted: Path, expected: dict[str, bytes]
) -> None:
    """Killed between the last epoch and the end: nothing is trained again."""
    shutil.copy(uninterrupted / FILE, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgekd.training.fit.make_trainer", lambda *_: pytest.fail("trained again"))
        fit(plan(tiny_digits, distillers=methods(**children.METHODS), **children.TRAIN), teachers(), tmp_path, "x",
            Resume(tmp_path / FILE, {"test": 1}))  # fmt: skip
    assert children.files(tmp_path) == expected
