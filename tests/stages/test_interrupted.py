"""A run that is stopped, politely or not, says so and goes on when it is started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.stages.tiny import weights, write_recipe


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    weights(tmp_path / "teacher.safetensors", "yolo11n")
    weights(tmp_path / "student.safetensors", "yolo11p")
    return tmp_path / "run"


def start(out: Path, data_yaml: Path, **changes: Any) -> subprocess.Popen[str]:
    data = {"format": "yolo", "path": str(data_yaml)}
    recipe = write_recipe(out.parent / "tiny.yaml", data=data, export=[], gate={}, **changes)
    return subprocess.Popen(
        [sys.executable, "-m", "edgekd.cli", "run", str(recipe), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_control_c(out: Path, tiny_digits: Path) -> None:
    process = start(out, tiny_digits)
    wait_for(out / "data/split.json", process)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert err.splitlines()[-1] == "edgekd: error: interrupted; the same command goes on from the last finished stage"
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_run_that_was_killed_while_distilling_goes_on(out: Path, tiny_digits: Path) -> None:
    train = {"imgsz": 64, "epochs": 3, "batch": 8, "amp": False}
    process = start(out, tiny_digits, train=train)
    wait_for(out / "student/engine/weights/last.pt", process)
    process.kill()
    process.communicate()
    assert not (out / "student/student.pt").exists()
    process = start(out, tiny_digits, train=train)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [line for line in err.splitlines() if line.endswith("kept")] == [
        f"{stage}: unchanged, kept" for stage in ("data", "teacher", "baseline", "accuracy/baseline")
    ]
    assert (out / "report.html").is_file()
    assert not (out / "student/engine").exists()
