"""A device elsewhere, behind the stand-in for adb: what it can do is done, and when it vanishes, that is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from edgekd.evidence import document
from tests.devices.phone import Phone
from tests.devices.tools import stand_ins

SERIAL = "R58M123ABC"


def evidence(path: Path, board: Path, phone: Phone, *only: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgekd", "evidence", "--out", str(path), "--device", str(board), "--miniature",
               "--minutes", "10", *(part for name in only for part in ("--only", name))]  # fmt: skip
    environment = {**os.environ, "PATH": f"{phone.adb.parent}:{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.slow
def test_a_phone_is_tried_and_its_serial_stays_here(tmp_path: Path) -> None:
    phone, board, path = Phone(tmp_path / "phone"), tmp_path / "board.yaml", tmp_path / "board.json"
    spec = {"transport": "adb", "adb": {"serial": SERIAL}, "runtimes": ["onnxruntime"], "python": sys.executable,
            "folder": str(phone.store)}  # fmt: skip
    board.write_text(yaml.safe_dump(spec))
    done = evidence(path, board, phone, "nms")
    assert done.returncode == 0, done.stderr
    found = document.read(path)
    assert {entry.experiment: (entry.status, entry.reason) for entry in found.entries} == {
        "nms in onnx-fp16": ("done", None)
    }
    assert {"target onnx-fp16 with nms", "device board"} <= {shown.row for shown in found.entries[0].shows}
    assert found.entries[0].shows[0].where[0] == "android"
    assert SERIAL not in path.read_text()
    assert str(tmp_path) not in path.read_text()
    phone.is_now("absent")
    gone = evidence(path, board, phone, "nms")
    assert gone.returncode == 4
    problems = [line for line in gone.stderr.splitlines() if line.startswith("edgekd: error: ")]
    assert len(problems) == 1, gone.stderr
    assert "device board" in problems[0]
    assert document.read(path) == found


@pytest.mark.slow
def test_a_phone_without_python_is_timed_by_its_program_and_its_tests_run_there(tmp_path: Path) -> None:
    phone, board, path = Phone(tmp_path / "phone"), tmp_path / "board.yaml", tmp_path / "board.json"
    program = stand_ins.perf_test(tmp_path / "onnxruntime_perf_test")
    spec = {"transport": "adb", "adb": {"serial": SERIAL}, "runtimes": ["onnxruntime"], "folder": str(phone.store),
            "tools": {"onnxruntime": {"push": str(program)}}}  # fmt: skip
    board.write_text(yaml.safe_dump(spec))
    done = evidence(path, board, phone, "target", "device tests")
    assert done.returncode == 0, done.stderr
    found = {entry.experiment: entry for entry in document.read(path).entries}
    assert {name: (entry.status, entry.reason) for name, entry in found.items()} == {
        "device tests": ("done", None), "target onnx-fp16": ("done", None),
    }  # fmt: skip
    assert (found["device tests"].figures["failed"], found["device tests"].figures["skipped"]) == (0, 3)
    (row,) = (shown for shown in found["target onnx-fp16"].shows if shown.row == "target onnx-fp16")
    assert list(row.by) == ["edgekd"]  # the program does not tell the version of its runtime
    assert found["target onnx-fp16"].figures["runtime"] == {"name": "onnxruntime", "program": "onnxruntime_perf_test"}
    assert SERIAL not in path.read_text()
