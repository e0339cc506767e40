"""Converter environments, with a Python whose venv and pip only write down what they are asked."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import EnvironmentFault, InputError
from edgekd.export import environment
from edgekd.export.environment import Requirements, convert, last_line, python_of
from tests.processes import ends

NEEDS = Requirements("tiny", ("converter==1.2", "torch==2.0"), download="30 MB")
FAKE_PYTHON = f"""#!/bin/sh
if [ "$2" = venv ]; then
    echo "venv" >> "$FAKE_LOG"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; sh -c "$FAKE_VENV"; exit $?
fi
if [ "$2" = pip ]; then echo "$@" >> "$FAKE_LOG"; sh -c "$FAKE_PIP"; exit $?; fi
exec {sys.executable} "$@"
"""


@pytest.fixture(autouse=True)
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of what the fake Python was asked."""
    python, log = tmp_path / "python", tmp_path / "asked.txt"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    log.touch()
    monkeypatch.setattr(environment.sys, "executable", str(python))
    for name, value in {
        "FAKE_LOG": str(log), "FAKE_PIP": "true", "FAKE_VENV": "true", "EDGEKD_CACHE": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EDGEKD_WHEELS", raising=False)
    return log


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scripts"
    folder.mkdir()
    monkeypatch.setattr(environment, "SCRIPTS", folder)
    return folder


def fault(call: Any, *arguments: Any) -> str:
    with pytest.raises(EnvironmentFault) as caught:
        call(*arguments)
    assert caught.value.exit_code == 4
    return str(caught.value)


class TestCreation:
    def test_made_once_with_pinned_packages(self, fake: Path, capsys: pytest.CaptureFixture[str]) -> None:
        python = python_of(NEEDS)
        assert python == NEEDS.folder / "bin" / "python"
        assert python_of(NEEDS) == python
        assert fake.read_text().splitlines() == [
            "venv",
            "-m pip install --no-input --disable-pip-version-check --progress-bar off converter==1.2 torch==2.0",
        ]
        said = re.sub(r"\b\d+ s$", "0 s", capsys.readouterr().err, flags=re.MULTILINE).splitlines()
        assert said == [
            f"environment tiny: installing converter==1.2, torch==2.0 into {NEEDS.folder} (once, 30 MB)",
            "environment tiny: ready after 0 s",
        ]

    def test_without_dependencies(self, fake: Path) -> None:
        python_of(Requirements("tiny", ("alone==1",), dependencies=False))
        assert fake.read_text().splitlines()[-1].endswith("--progress-bar off --no-deps alone==1")

    def test_from_wheels_alone(self, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wheels = tmp_path / "wheels"
        wheels.mkdir()
        monkeypatch.setenv("EDGEKD_WHEELS", str(wheels))
        python_of(NEEDS)
        assert f"--no-index --find-links {wheels} converter==1.2" in fake.read_text()

    def test_other_requirements_are_another_environment(self) -> None:
        folders = {
            NEEDS.folder,
            Requirements("tiny", ("converter==1.3", "torch==2.0")).folder,
            Requirements("tiny", NEEDS.packages, dependencies=False).folder,
        }
        assert len(folders) == 3
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        assert all(folder.name.startswith(f"tiny-py{version}-") for folder in folders)

    def test_what_a_killed_process_left_is_made_anew(self, fake: Path) -> None:
        (NEEDS.folder / "bin").mkdir(parents=True)
        (NEEDS.folder / "bin" / "python").write_text("half")
        (NEEDS.folder / "stale").touch()
        python = python_of(NEEDS)
        assert python.read_text() == FAKE_PYTHON
        assert not (NEEDS.folder / "stale").exists()

    def test_a_second_process_waits_for_the_first(self, fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said: queue.SimpleQueue[str] = queue.SimpleQueue()
        monkeypatch.setattr(environment, "say", said.put)
        NEEDS.folder.parent.mkdir(parents=True)
        with NEEDS.folder.with_name(f"{NEEDS.folder.name}.lock").open("w") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            second = threading.Thread(target=python_of, args=(NEEDS,), daemon=True)
            second.start()
            assert "another process is making" in said.get(timeout=100)
            assert second.is_alive()
            NEEDS.folder.mkdir()
            (NEEDS.folder / "edgekd-environment.json").write_text("{}")
        second.join(100)
        assert not second.is_alive()
        assert fake.read_text() == ""

    def test_pip_outlives_a_killed_process_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is started to fill an environment keeps it locked, should its parent be gone."""
        lock = NEEDS.folder.with_name(f"{NEEDS.folder.name}.lock")
        probe = f"{sys.executable} -c \"import fcntl; fcntl.flock(open('{lock}'), fcntl.LOCK_EX | fcntl.LOCK_NB)\""
        monkeypatch.setenv("FAKE_PIP", f"ls -l /proc/self/fd > {tmp_path / 'open.txt'}; ! {probe}")
        python_of(NEEDS)
        assert lock.name in (tmp_path / "open.txt").read_text()


class TestFaults:
    def test_a_package_that_cannot_be_had(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_PIP", "echo 'ERROR: No matching distribution found for torch==2.0' >&2; exit 1")
        assert fault(python_of, NEEDS) == (
            f"environment tiny: cannot be made in {NEEDS.folder} (No matching distribution found for torch==2.0); "
            "check network, disk and pip's configuration, or set EDGEKD_WHEELS to a folder filled by: "
            "pip download -d FOLDER 'converter==1.2' 'torch==2.0'"
        )
        assert not NEEDS.folder.exists()

    def test_a_wheel_that_is_not_in_the_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EDGEKD_WHEELS", str(tmp_path))
        monkeypatch.setenv("FAKE_PIP", "echo 'ERROR: No matching distribution found for torch==2.0' >&2; exit 1")
        assert fault(python_of, NEEDS).endswith(
            f"; put the wheels into {tmp_path} where there is a network: "
            f"pip download -d {tmp_path} 'converter==1.2' 'torch==2.0'"
        )

    def test_wheels_that_are_no_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given = tmp_path / "nowhere"
        monkeypatch.setenv("EDGEKD_WHEELS", str(given))
        assert fault(python_of, NEEDS) == (
            f"EDGEKD_WHEELS: {given} is no folder; name one with the wheels, or unset it"
        )
        assert not NEEDS.folder.exists()

    def test_a_python_without_venv(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_VENV", "echo 'No module named venv' >&2; exit 1")
        message = fault(python_of, NEEDS)
        assert "(No module named venv); install the venv module of this Python (Debian: apt install python3." in message
        assert not NEEDS.folder.exists()

    def test_a_cache_that_cannot_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("EDGEKD_CACHE", str(tmp_path / "file"))
        assert fault(python_of, NEEDS) == (
            f"{tmp_path}/file/environments: cannot write (Not a directory); free space, or set EDGEKD_CACHE to "
            "another folder"
        )


class TestConvert:
    def run(self, scripts: Path, tmp_path: Path, program: str, timeout_s: float = 20.0) -> dict[str, Any]:
        (scripts / "to_x.py").write_text(program)
        folder = Path(os.path.relpath(tmp_path / "out"))
        folder.mkdir()
        return convert(NEEDS, "to_x.py", {"target": "x-fp32", "onnx": "m.onnx"}, folder, timeout_s)

    def test_json_in_and_out(self, scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONPATH", "/elsewhere")
        program = (
            "import json, os, pathlib, sys\n"
            "job = json.load(open(sys.argv[1])); folder = pathlib.Path(job['folder'])\n"
            "print('chatter'); (folder / 'model.x').write_text(job['onnx'])\n"
            "result = {'tools': {'x': '1'}, 'path': os.environ.get('PYTHONPATH')}\n"
            "(folder / 'result.json').write_text(json.dumps(result))\n"
        )
        assert self.run(scripts, tmp_path, program) == {"tools": {"x": "1"}, "path": None}
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.x"]
        assert (tmp_path / "out" / "model.x").read_text() == "m.onnx"

    def test_a_model_that_the_converter_does_not_support(self, scripts: Path, tmp_path: Path) -> None:
        program = (
            "import json, pathlib, sys\n"
            "folder = pathlib.Path(json.load(open(sys.argv[1]))['folder'])\n"
            "(folder / 'result.json').write_text(json.dumps({'unsupported': 'x has no layer for TopK'}))\n"
        )
        with pytest.raises(InputError) as caught:
            self.run(scripts, tmp_path, program)
        assert str(caught.value) == (
            "x-fp32: x has no layer for TopK; choose another target, or a student without that operator (an end-to-end "
            "head ends in such: set student.head: one2many where there is that branch)"
        )

    def test_a_converter_that_fails(self, scripts: Path, tmp_path: Path) -> None:
        with pytest.raises(EnvironmentFault) as caught:
            self.run(scripts, tmp_path, "print('working')\nraise ValueError('the axis is odd')\n")
        assert str(caught.value) == (
            f"x-fp32: to_x.py failed in {NEEDS.folder} (exit code 1): ValueError: the axis is odd; if the environment "
            "is damaged, delete that folder, and it is made anew"
        )

    def test_a_converter_that_takes_too_long_is_stopped_with_its_children(self, scripts: Path, tmp_path: Path) -> None:
        program = (
            "import pathlib, subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "pathlib.Path(sys.argv[1]).with_name('child').write_text(str(child.pid))\n"
            "time.sleep(600)\n"
        )
        started = time.monotonic()
        with pytest.raises(EnvironmentFault) as caught:
            self.run(scripts, tmp_path, program, timeout_s=20.0)
        assert str(caught.value) == (
            "x-fp32: to_x.py took more than 20 s and was stopped; raise timeout_s in the target's options"
        )
        assert time.monotonic() - started < 300
        assert ends(int((tmp_path / "out" / "child").read_text()))


def test_the_last_line_is_the_one_that_tells() -> None:
    assert last_line("Collecting x\nERROR: \x1b[31mno space\x1b[0m\n\nnotice: a newer pip\n") == "no space"
    assert last_line("Traceback\nKeyError: 'a'\n\n") == "KeyError: 'a'"
    assert last_line(" \n") == "it wrote nothing"
    assert len(last_line("x" * 1000)) == 300


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert environment.cache() == Path(os.environ["EDGEKD_CACHE"])
    monkeypatch.delenv("EDGEKD_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.cache() == tmp_path / ".cache" / "edgekd"


def test_the_marker_names_what_is_installed() -> None:
    python_of(NEEDS)
    marker = json.loads((NEEDS.folder / "edgekd-environment.json").read_text())
    assert marker["packages"] == ["converter==1.2", "torch==2.0"]
