"""The supervisor by itself: a host that is gone, one that freezes, one that stays, and two at a time."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekd.agent.lock import held
from edgekd.agent.protocol import Reader
from edgekd.devices import agent_archive, stream
from edgekd.testing.artifacts import write_artifact, write_pack


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agent_archive.build(tmp_path_factory.mktemp("an agent"))


@contextlib.contextmanager
def supervised(
    agent: Path,
    lock: Path,
    line: list[str],
    *,
    python: str = sys.executable,
    silence_s: float = 60.0,
    wait_s: float = 0.3,
) -> Iterator[subprocess.Popen[bytes]]:
    command = [python, agent, "supervise", "--line", json.dumps(line), "--lock", lock, "--label", "me"]
    command += ["--silence-seconds", str(silence_s), "--beat-seconds", "0.2", "--wait-seconds", str(wait_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def long_run(tmp_path: Path) -> list[str]:
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    wanted = ["--min-seconds", "600", "--warmup-seconds", "0.1"]
    return ["profile", "--artifact", str(artifact), "--pack", str(pack), *wanted]


def running(artifact: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"profile" in words and str(artifact).encode() in words:
                    found.append(int(entry.name))
    return found


def wait_until(condition: object, seconds: float = 100.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(condition())  # type: ignore[operator]


def test_a_run_passes_through_whole(agent: Path, tmp_path: Path) -> None:
    with supervised(agent, tmp_path / "lock", ["doctor", "--runtime", "nonesuch"]) as process:
        out = process.stdout.read()
        process.wait(160)
    reader = Reader()
    assert [reader.feed(line)["event"] for line in out.splitlines(keepends=True)] == ["doctor", "end"]
    assert reader.complete
    assert process.returncode == 0


def test_the_code_of_a_run_is_passed_on(agent: Path, tmp_path: Path) -> None:
    with supervised(agent, tmp_path / "lock", ["predict", "--artifact", "x", "--pack", "y"]) as process:
        out = process.stdout.read()
        process.wait(160)
    assert process.returncode == 1
    assert json.loads(out)["event"] == "error"


@pytest.mark.parametrize("end", ["closed", "silent", "terminated"])
def test_the_run_ends_with_the_host(agent: Path, tmp_path: Path, end: str) -> None:
    line = long_run(tmp_path)
    silence_s = 3.0 if end == "silent" else 60.0
    with supervised(agent, tmp_path / "lock", line, silence_s=silence_s) as process:
        with stream.heartbeat(process.stdin, 0.2):
            assert process.stdout.readline()
        assert len(running(tmp_path / "tiny")) == 1
        if end == "closed":
            process.stdin.close()
        elif end == "terminated":
            process.send_signal(signal.SIGTERM)
        process.wait(160)
        assert process.returncode != 0
        assert wait_until(lambda: not running(tmp_path / "tiny"))


def test_signs_of_life_keep_it_running_and_come_back(agent: Path, tmp_path: Path) -> None:
    with supervised(agent, tmp_path / "lock", long_run(tmp_path), silence_s=3.0) as process:
        with stream.heartbeat(process.stdin, 0.2):
            assert process.stdout.readline()
            time.sleep(4)
        assert process.poll() is None
        process.stdin.close()
        assert process.stderr.read().count(b"\n") >= 6


def test_one_at_a_time(agent: Path, tmp_path: Path) -> None:
    with supervised(agent, tmp_path / "lock", long_run(tmp_path)) as first:
        assert first.stdout.readline()
        with supervised(agent, tmp_path / "lock", ["doctor"]) as second:
            event = json.loads(second.stdout.read())
        assert (event["kind"], event["message"][:21]) == ("busy", "in use by me, since 2")
        first.stdin.close()
        first.wait(160)
    with supervised(agent, tmp_path / "lock", ["doctor", "--runtime", "nonesuch"]) as third:
        assert third.stdout.read().splitlines()[-1].startswith(b'{"event":"end"')


def test_who_waits_for_the_device_beats_and_then_runs(agent: Path, tmp_path: Path) -> None:
    line = ["doctor", "--runtime", "nonesuch"]
    with contextlib.ExitStack() as other:
        other.enter_context(held(tmp_path / "lock", "me", 0))
        with supervised(agent, tmp_path / "lock", line, wait_s=300) as process:
            assert process.stderr.read(3) == b"\n\n\n"  # while it waits
            other.close()
            assert [json.loads(said)["event"] for said in process.stdout] == ["doctor", "end"]


def test_who_waits_for_the_device_ends_with_the_host(agent: Path, tmp_path: Path) -> None:
    with held(tmp_path / "lock", "me", 0), supervised(agent, tmp_path / "lock", ["doctor"], wait_s=300) as process:
        assert process.stderr.read(1) == b"\n"
        process.stdin.close()
        assert process.wait(60) == 1
        assert process.stdout.read() == b""


def test_without_numpy(agent: Path, tmp_path: Path) -> None:
    """What the doctor needs is there wherever Python is; the rest says what is missing."""
    (tmp_path / "numpy.py").write_text("raise ImportError('there is none')")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"}

    def events(*arguments: str) -> list[dict[str, object]]:
        command = [sys.executable, agent, *arguments]
        said = subprocess.run(command, env=environment, capture_output=True, check=False).stdout
        return [json.loads(line) for line in said.splitlines()]

    doctor, end = events("doctor")
    assert doctor["libraries"]["numpy"] is None
    assert end["event"] == "end"
    assert events("doctor", "--runtime", "onnxruntime")[0]["runtime"]["unusable"]
    assert events("state")[0]["event"] == "telemetry"
    assert events("predict", "--artifact", "x", "--pack", "y")[-1]["message"] == "there is none"
