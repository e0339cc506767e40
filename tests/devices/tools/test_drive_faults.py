"""Faults of timing programs: each is one line, and leaves nothing running and nothing behind."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.devices.tools import bench
from edgekd.devices.tools.drive import profile_by_tool
from tests.devices.loopback import Sshd, fault
from tests.devices.phone import Phone
from tests.devices.tools import stand_ins
from tests.devices.tools.stand_ins import RULES, calls, local, running, write_artifact


class TestFaults:
    def drive(self, tmp_path: Path, program: Path | str, **more: Any) -> None:
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        with local("litert", {"program": str(program)}, **more) as device:
            profile_by_tool(device, artifact, protocol=RULES)

    def test_missing(self, tmp_path: Path) -> None:
        with fault("tool_missing", r"device box: benchmark_model: /no/such: is not there; install it, or name in", 5):
            self.drive(tmp_path, "/no/such")

    def test_not_executable(self, tmp_path: Path) -> None:
        program = stand_ins.benchmark_model(tmp_path / "benchmark_model")
        program.chmod(0o644)
        with fault("tool_missing", "is not executable: permission denied; chmod 755 it, .* noexec", 5):
            self.drive(tmp_path, program)

    def test_of_another_machine(self, tmp_path: Path) -> None:
        program = tmp_path / "benchmark_model"
        program.write_bytes(b"\x7fELF not of this machine")
        program.chmod(0o755)
        with fault("tool_missing", "was built for a processor of ELF number 25441, the device is ", 5):
            self.drive(tmp_path, program)

    def test_nothing_to_push(self, tmp_path: Path) -> None:
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        with (
            local("litert", {"push": tmp_path / "gone"}) as device,
            fault("tool_missing", "gone: no such file on this machine; put benchmark_model there", 5),
        ):
            profile_by_tool(device, artifact, protocol=RULES)

    def test_garbage(self, tmp_path: Path) -> None:
        program = stand_ins.program(tmp_path / "p", "head -c 3000 /dev/urandom\necho\necho so much for that\n")
        with fault("crashed", "device box: benchmark_model: it ended without a result; it said last: .*so much", 5):
            self.drive(tmp_path, program)

    def test_it_dies_in_the_middle_and_finished_processes_are_kept(self, tmp_path: Path) -> None:
        program = stand_ins.benchmark_model(tmp_path / "p")
        sound = program.read_text()
        program.write_text(sound.replace("cat ", f'[ "$(wc -l <{program}.calls)" -lt 2 ] || kill -9 $$\ncat '))
        artifact, record = write_artifact(tmp_path / "m", "litert", "model.tflite"), tmp_path / "r.jsonl"
        with local("litert", {"program": str(program)}) as device:
            with fault("crashed", "it ended without a result; it said last: Killed", 5):
                profile_by_tool(device, artifact, protocol=RULES, record=record)
            assert not record.exists()
            program.write_text(sound)
            found = profile_by_tool(device, artifact, protocol=RULES, record=record)
        assert (len(found["inference"]), len(calls(program))) == (2, 3)
        assert [json.loads(line)["event"] for line in record.read_text().splitlines()] == ["tool", "tool"]
        assert not list(tmp_path.glob("*.partial"))

    def test_the_wrong_artifact(self, tmp_path: Path) -> None:
        program = stand_ins.perf_test(tmp_path / "p")
        artifact = write_artifact(tmp_path / "m", "onnxruntime", "model.onnx", input_shape=[None, 3, 64, 64])
        with (
            local("onnxruntime", {"program": str(program)}) as device,
            fault("incomplete", "onnxruntime_perf_test: makes inputs of fixed shapes alone; export the target with", 5),
        ):
            profile_by_tool(device, artifact, protocol=RULES)

    @pytest.mark.parametrize("where", ["local", "server", "phone"])
    def test_too_long(
        self, where: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bench.Bench, "limit_s", 1.0)
        program = stand_ins.program(tmp_path / "p", "sleep 613 & sleep 614\n")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        spec: dict[str, Any] = {"runtimes": ("litert",), "tools": {"litert": {"program": str(program)}}}
        made = local("litert", {"program": str(program)}) if where == "local" else None
        with (
            made or request.getfixturevalue(where).device(**spec, python=None) as device,
            fault("silent", "benchmark_model: did not end in 1 s and was stopped", 6),
        ):
            profile_by_tool(device, artifact, protocol=RULES)
        assert running("sleep", "613", "614") == []

    @pytest.mark.parametrize("disturb", [Sshd.stop, lambda server: server.signal(signal.SIGKILL)])
    def test_the_link_is_cut(self, server: Sshd, tmp_path: Path, disturb: Callable[[Sshd], None]) -> None:
        program = stand_ins.program(tmp_path / "p", f"echo >{tmp_path}/begun\nsleep 615\n")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        tools = {"litert": {"program": str(program)}}
        with server.device(runtimes=("litert",), tools=tools, python=None) as device:
            disturbing = threading.Thread(target=lambda: (wait_for(tmp_path / "begun"), disturb(server)))
            disturbing.start()
            with fault("lost", "device loop", 12):
                profile_by_tool(device, artifact, protocol=RULES)
        assert running("sleep", "615") == []

    @pytest.mark.parametrize(
        ("state", "kind"), [("dies 1", "lost"), pytest.param("frozen", "silent", marks=pytest.mark.slow)]
    )
    def test_a_phone_that_is_unplugged_or_freezes(self, phone: Phone, tmp_path: Path, state: str, kind: str) -> None:
        program = stand_ins.program(tmp_path / "p", f"echo >{tmp_path}/begun\nsleep 616\n")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        disturbing = threading.Thread(target=lambda: (wait_for(tmp_path / "begun"), phone.is_now(state)))
        disturbing.start()
        with (
            phone.device(runtimes=("litert",), tools={"litert": {"program": str(program)}}) as device,
            fault(kind, "device phone", 12),
        ):
            profile_by_tool(device, artifact, protocol=RULES)
        disturbing.join()
        assert running("sleep", "616") == []

    def test_somebody_else_measures(self, server: Sshd, tmp_path: Path) -> None:
        program = stand_ins.benchmark_model(tmp_path / "p")
        artifact = write_artifact(tmp_path / "m", "litert", "model.tflite")
        tools = {"litert": {"program": str(program)}}
        server.store.mkdir()
        (server.store / "lock").write_text("somebody@elsewhere")
        with (
            (server.store / "lock").open("r+") as held,
            server.device(runtimes=("litert",), tools=tools, python=None) as device,
        ):
            fcntl.flock(held, fcntl.LOCK_EX)
            with fault("busy", "benchmark_model: in use by somebody@elsewhere; wait for it to end", 8):
                profile_by_tool(device, artifact, protocol=RULES)


def wait_for(path: Path) -> None:
    """At most 100 s."""
    deadline = time.monotonic() + 100
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
