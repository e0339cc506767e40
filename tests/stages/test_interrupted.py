"""A run that is stopped, politely or not, says so and goes on when it is started again."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekd.training.resume import Resume
from tests.stages.tiny import edgekd, read, weights, write_recipe

pytest_plugins = ("tests.stages.whole_run",)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    weights(tmp_path / "teacher.safetensors", "yolo11n")
    weights(tmp_path / "student.safetensors", "yolo11p")
    return tmp_path / "run"


# What a shell starts in the background ignores Ctrl-C, and so does what that starts.
PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from edgekd.__main__ import main
main()
"""


def start(out: Path, data_yaml: Path, **changes: Any) -> subprocess.Popen[str]:
    data = {"format": "yolo", "path": str(data_yaml)}
    recipe = write_recipe(out.parent / "tiny.yaml", data=data, export=[], gate=None, **changes)
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", str(recipe), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_control_c_that_native_code_turns_into_an_error(tmp_path: Path) -> None:
    """As torch does while it looks at a tensor's shape: what is then raised says nothing of the key."""
    program = PROGRAM.replace(
        "main()",
        """
import os
from edgekd.errors import InputError
from edgekd.stages import listing
def swallow():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        raise InputError("x.safetensors: is damaged") from None
listing.list_devices = swallow
main()""",
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "devices"], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    expected = "edgekd: error: interrupted; the same command goes on from the last finished stage\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", expected)


@pytest.mark.slow  # the same in a terminal is below
def test_control_c(out: Path, tiny_digits: Path) -> None:
    process = start(out, tiny_digits)
    wait_for(out / "data/split.json", process)
    while process.poll() is None:  # a library that is just being imported may swallow one: people press again
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
    said, err = process.communicate(timeout=300)
    assert (process.returncode, said) == (130, "")
    assert err.splitlines()[-1] == "edgekd: error: interrupted; the same command goes on from the last finished stage"
    assert "Traceback" not in err


def stop_in_epoch(epoch: int, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM arrives before the second batch of this epoch of the control or the student."""
    original = Resume._before_batch

    def before_batch(self: Resume, trainer: Any) -> None:
        if self.path.parent.name == stage and (trainer.epoch + 1, trainer.train_loader.index) == (epoch, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        original(self, trainer)

    monkeypatch.setattr(Resume, "_before_batch", before_batch)


TRAIN = {"imgsz": 64, "epochs": 2, "batch": 8, "optimizer": "AdamW", "lr0": 0.0001, "amp": False}


class TestAStoppedTraining:
    """One recipe; its student is stopped in the second epoch."""

    @pytest.fixture
    def stopped(self, out: Path, tiny_digits: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
        data = {"format": "yolo", "path": str(tiny_digits)}
        recipe = write_recipe(out.parent / "tiny.yaml", data=data, control=False, export=[], gate={}, train=TRAIN)
        stop_in_epoch(2, "student", monkeypatch)
        ended = edgekd("distill", recipe, "--out", out)
        assert ended.code == 130
        assert ended.err.splitlines()[-1] == (
            "edgekd: error: interrupted by SIGTERM in epoch 2, batch 1 of 3; "
            "the training state is saved, the same command goes on from it"
        )
        monkeypatch.undo()
        monkeypatch.chdir(out.parent / "cwd")
        return recipe, out

    def test_goes_on_with_the_same_command(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        ended = edgekd("distill", recipe, "--out", out)
        assert ended.code == 0
        assert "going on from epoch 2, batch 1" in ended.err.splitlines()
        assert not (out / "student/resume.pt").exists()
        epochs = (out / "student/epochs.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in epochs] == ["epoch", "1", "2"]
        effort = read(out / "student/training.json")
        assert effort["epochs"] == 2
        assert 0 < effort["saving_seconds"] < effort["seconds"]

    def test_of_another_recipe_is_refused_unless_allowed(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        changed = ("distill", recipe, "--out", out, "--set", "train.lr0=0.0002")
        ended = edgekd(*changed)
        assert ended.code == 2
        assert ended.err.splitlines()[-1] == (
            f"edgekd: error: {out}/student/resume.pt: the saved training, from epoch 2, batch 1, differs in train.lr0 "
            "(0.0001, now 0.0002); --allow-changed goes on from it, --fresh begins the whole run anew, "
            "deleting the file this training alone"
        )
        assert edgekd(*changed, "--allow-changed").code == 0

    def test_of_another_model_is_refused_at_any_rate(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        weights(out.parent / "other.safetensors", "yolov8p")
        ended = edgekd(
            "distill", recipe, "--out", out, "--allow-changed",
            "--set", "student.weights=other.safetensors", "--set", "student.model=yolov8p",
        )  # fmt: skip
        assert ended.code == 2
        assert "student.model (yolo11p, now yolov8p)" in ended.err
        assert "--allow-changed goes on" not in ended.err

    def test_a_finished_training_of_another_recipe_is_simply_done_again(self, stopped: tuple[Path, Path]) -> None:
        recipe, out = stopped
        assert edgekd("distill", recipe, "--out", out).code == 0
        ended = edgekd("distill", recipe, "--out", out, "--set", "train.epochs=1")
        assert ended.code == 0
        assert read(out / "student/training.json")["epochs"] == 1


@pytest.mark.slow
def test_a_run_that_was_killed_while_distilling_goes_on(out: Path, tiny_digits: Path) -> None:
    train = {"imgsz": 64, "epochs": 3, "batch": 8, "amp": False}
    process = start(out, tiny_digits, train=train)
    wait_for(out / "student/resume.pt", process)
    process.kill()
    process.communicate()
    assert not (out / "student/student.pt").exists()
    process = start(out, tiny_digits, train=train)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [line for line in err.splitlines() if line.endswith("kept")] == [
        f"{stage}: unchanged, kept" for stage in ("data", "teacher", "control", "accuracy/control")
    ]
    assert [line for line in err.splitlines() if line.startswith("going on from epoch")]
    assert (out / "report.html").is_file()
    assert not (out / "student/engine").exists()


def in_a_terminal(arguments: list[str], seen: str) -> tuple[int, str]:
    """Run edgekd in a terminal of its own, press Ctrl-C once `seen` is shown; exit code, and all that was shown.

    The terminal sends the signal to the whole process group: edgekd, its agents and its workers.
    """
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": "200"}
        os.execve(sys.executable, [sys.executable, "-m", "edgekd", *arguments], environment)
    shown, pressed = "", False
    with contextlib.suppress(OSError):  # the terminal closes with its last process
        while part := os.read(terminal, 1 << 16):
            shown += part.decode(errors="replace")
            if not pressed and seen in shown:
                os.write(terminal, b"\x03")
                pressed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def said(shown: str) -> list[str]:
    """Lines of edgekd's own, without what moves the cursor."""
    return [text for text in re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown).split("\r\n") if text.startswith("edgekd: ")]


def require_a_clean_end(code: int, shown: str, line: str) -> None:
    assert (code, said(shown)) == (130, [line]), shown
    assert "Traceback" not in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is back"


def test_control_c_in_a_terminal_while_an_agent_measures(run: Path) -> None:
    code, shown = in_a_terminal(["profile", str(run), "--set", "profile.protocol=full"], "profile onnx-fp32")
    line = "edgekd: error: interrupted; the same command goes on from the last finished stage"
    require_a_clean_end(code, shown, line)
    assert "full" not in (run / "recipe.lock.yaml").read_text()


def test_control_c_in_a_terminal_while_a_model_trains(out: Path, tiny_digits: Path) -> None:
    data, train = {"format": "yolo", "path": str(tiny_digits)}, {**TRAIN, "epochs": 300}
    recipe = write_recipe(out.parent / "tiny.yaml", data=data, control=False, export=[], gate=None, train=train)
    code, shown = in_a_terminal(["distill", str(recipe), "--out", str(out)], "loss ")
    (line,) = said(shown)
    assert line.startswith("edgekd: error: interrupted by SIGINT in epoch ")
    require_a_clean_end(code, shown, line)
    assert (out / "student/resume.pt").is_file()
