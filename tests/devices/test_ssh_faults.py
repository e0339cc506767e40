"""What can go wrong with a device behind ssh, done to a real sshd: a typed error, in time, and nothing left there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgekd.devices import run_agent, store
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import Device, SshSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.ssh import SshChannel
from edgekd.devices.stream import OnEvent
from edgekd.measure.latency import Protocol
from edgekd.measure.latency_events import summarise_events
from edgekd.testing.artifacts import write_artifact, write_pack
from tests.devices import loopback
from tests.devices.loopback import Sshd, fault, left, run_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with loopback.running(tmp_path / "sshd") as server:
        yield server


class TestConnecting:
    def test_an_unknown_key_is_not_trusted(self, server: Sshd) -> None:
        (server.folder / "known_hosts").write_text("")
        with fault("host_key", "device loop: its host key is unknown; 'edgekd doctor --device loop --accept", 5):
            server.device()

    def test_a_changed_key(self, server: Sshd) -> None:
        server.stop()
        server.change_key()
        server.start()
        with fault("host_key", "device loop: its host key is not the one it had before", 5):
            server.device()

    def test_wrong_credentials(self, server: Sshd) -> None:
        (server.folder / "authorized_keys").write_text("")
        with fault("auth", r"refuses this user \(.*Permission denied.*ssh-copy-id", 5):
            server.device()

    def test_nobody_listens(self, server: Sshd) -> None:
        server.stop()
        with fault("unreachable", "cannot be reached .*Connection refused", 5):
            server.device()

    def test_a_peer_that_never_speaks(self, server: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            given = server.spec().ssh.model_copy(update={"port": silent.getsockname()[1]})
            with fault("unreachable", r"cannot be reached \(.*timed out", 6):
                server.device(replace(loopback.PATIENT, connect=1), ssh=given)

    def test_a_key_file_that_is_missing(self, server: Sshd) -> None:
        with fault("auth", r"device loop: ssh.identity_file: .*/nokey: no such file", 2):
            server.device(ssh=SshSpec(host="127.0.0.1", identity_file=server.folder / "nokey"))

    def test_settings_that_ssh_refuses(self, server: Sshd) -> None:
        (server.folder / "ssh_config").write_text("NoSuchThing yes\n")
        with fault("unreachable", "ssh does not take its settings", 5):
            server.device()

    def test_no_ssh_here(self, server: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "sh").symlink_to("/bin/sh")
        monkeypatch.setenv("PATH", str(tmp_path))
        with fault("tool_missing", "ssh is not installed here", 5):
            server.device()

    def test_nothing_is_left_here(self, server: Sshd) -> None:
        channel = SshChannel(server.spec(), loopback.PATIENT)
        with RemoteDevice(server.spec(), channel, loopback.PATIENT):
            folder, master = channel._folder, channel._master
        assert not folder.exists()
        assert master.poll() is not None
        deadline = time.monotonic() + 60
        while server.sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.sessions() == []


class TestRunning:
    def test_the_connection_is_cut(self, server: Sshd, tmp_path: Path) -> None:
        with server.device() as device, fault("lost", r"the connection broke \(.+the same command goes on", 10):
            run_until(device, tmp_path, lambda: server.signal(signal.SIGKILL))
        assert left(server, 3) == {}

    def test_the_peer_is_frozen(self, server: Sshd, tmp_path: Path) -> None:
        short = replace(loopback.PATIENT, alive_interval=2, alive_count=2, host_silence=10)
        with server.device(short) as device, fault("lost", "not responding", 12):
            run_until(device, tmp_path, lambda: server.signal(signal.SIGSTOP))
        assert left(server, 3) == {}

    @pytest.mark.parametrize("part", ["profile", pytest.param("supervise", marks=pytest.mark.slow)])
    def test_the_agent_is_killed(self, server: Sshd, tmp_path: Path, part: str) -> None:
        def kill() -> None:
            found = [pid for pid, line in server.processes().items() if f".pyz {part} " in line]
            assert len(found) == 1
            os.kill(found[0], signal.SIGKILL)

        with server.device() as device, fault("crashed", r"agent profile: ended before its output was whole", 12):
            run_until(device, tmp_path, kill)
        assert left(server, 3) == {}

    def test_the_host_is_killed(self, server: Sshd, tmp_path: Path) -> None:
        """Not even a SIGKILL of edgekd leaves its agent there, or its connection here."""
        program = tmp_path / "host.py"
        program.write_text(
            "import os, signal, sys\nfrom pathlib import Path\n"
            "from tests.devices.loopback import run_until\n"
            "from edgekd.devices.contract import DeviceSpec\nfrom edgekd.devices.remote import RemoteDevice\n"
            "from edgekd.devices.ssh import SshChannel\nfrom tests.devices.loopback import PATIENT\n"
            f"spec = DeviceSpec.model_validate_json({server.spec().model_dump_json()!r})\n"
            "device = RemoteDevice(spec, SshChannel(spec, PATIENT), PATIENT)\n"
            f"run_until(device, Path({str(tmp_path)!r}), lambda: os.kill(os.getpid(), signal.SIGKILL))\n"
        )
        ended = subprocess.run([sys.executable, program], check=False, cwd=Path(__file__).parents[2], timeout=300)
        assert ended.returncode == -signal.SIGKILL
        assert left(server, 3) == {}
        deadline = time.monotonic() + 60
        while server.sessions() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.sessions() == []

    def test_a_listener_that_fails(self, server: Sshd, tmp_path: Path) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        with server.device() as device, pytest.raises(KeyboardInterrupt):
            run_until(device, tmp_path, interrupt)
        assert left(server, 3) == {}

    def test_one_at_a_time(self, server: Sshd, tmp_path: Path) -> None:
        def other() -> None:
            with server.device() as second, fault("busy", r"busy: in use by \S+@.*process \d+\), since 2", 9):
                second.run(["doctor"], print)
            raise KeyboardInterrupt

        with server.device() as device, pytest.raises(KeyboardInterrupt):
            run_until(device, tmp_path, other)

    def test_the_same_command_goes_on(self, server: Sshd, tmp_path: Path) -> None:
        """Cut in the second process of three: the first is not measured again."""
        artifact, pack, record = write_artifact(tmp_path / "tiny"), write_pack(tmp_path), tmp_path / "record.jsonl"
        rules = Protocol("mine", 3, warmup_seconds=0.05, min_count=64, min_seconds=0.05, needs_steady=False)
        started = []

        def profile(device: Device) -> list[list[dict[str, object]]]:
            return run_agent.profile(device, artifact, pack, protocol=rules, threads=1, record=record)

        class CutInTheSecond(RemoteDevice):
            def run(self, arguments: Sequence[str], on_event: OnEvent) -> None:
                started.append(arguments[0])
                if len(started) == 2:
                    server.signal(signal.SIGKILL)
                super().run(arguments, on_event)

        channel = SshChannel(server.spec(), loopback.PATIENT)
        with CutInTheSecond(server.spec(), channel, loopback.PATIENT) as device, fault("lost", "the same command", 12):
            profile(device)
        kept = [json.loads(line) for line in record.with_name("record.jsonl.partial").read_text().splitlines()][1:]
        with server.device() as device:
            processes = profile(device)
        assert len(processes) == 3
        assert processes[:1] == kept
        assert summarise_events(processes, protocol=rules, target="tiny", device="loop")["latency_ms"]
        assert not record.with_name("record.jsonl.partial").exists()


class TestPushing:
    def big(self, tmp_path: Path, megabytes: int = 128) -> Path:
        (tmp_path / "big").write_bytes(os.urandom(1 << 20) * megabytes)
        return tmp_path / "big"

    def disturbed(self, server: Sshd, number: int) -> threading.Thread:
        """Signals the connection once some of the file has arrived."""

        def watch() -> None:
            parts = (server.store / "store").glob
            with contextlib.suppress(FileNotFoundError):  # it is through
                while not any(part.stat().st_size > 1 << 20 for part in parts(".new-*/part")):
                    time.sleep(0.005)
            server.signal(number)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    def files_left(self, server: Sshd, seconds: float) -> list[str]:
        deadline = time.monotonic() + loopback.BUSY * seconds
        while (found := self.files(server)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def files(self, server: Sshd) -> list[str]:
        """Walked, for folders may go meanwhile."""
        return [name for _, folders, files in os.walk(server.store / "store") for name in (*folders, *files)]

    @pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
    def test_unplugged_or_frozen_in_the_middle(self, server: Sshd, tmp_path: Path, number: int) -> None:
        source = self.big(tmp_path)
        hurried = replace(loopback.HASTY, quiet=0.3)  # the device clears away what a frozen server brought in 1 s
        timeouts = hurried if number == signal.SIGSTOP else loopback.PATIENT
        with server.device(timeouts) as device, fault("lost", "the connection broke", 12):
            self.disturbed(server, number)
            device.push(source)
        assert self.files_left(server, 5) == []
        assert left(server, 5) == {}
        with server.device() as device:  # the same command goes on
            assert Path(device.push(source)).stat().st_size == source.stat().st_size

    @pytest.mark.parametrize("looked_before", [True, False])
    def test_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_before: bool) -> None:
        with loopback.running(tmp_path / "sshd") as server, small_disk(server.store):
            if not looked_before:
                monkeypatch.setattr(store, "free_bytes", lambda _: None)
            with server.device() as device, fault("disk_full", "device loop: its disk is full", 10):
                device.push(self.big(tmp_path, 24))
            assert list((server.store / "store").iterdir()) == []

    def test_a_folder_that_may_not_be_written(self, server: Sshd) -> None:
        (server.folder / "file").touch()
        with fault("denied", r"folder .*/file/x cannot be made \(.*; set `folder` to one that", 5):
            server.device(folder=str(server.folder / "file" / "x"))


class TestPython:
    @pytest.mark.parametrize(
        ("script", "text"),
        [
            ("echo 3.6.15", "is Python 3.6.15, the agent takes 3.8 or newer; set `python` to one that is, or use trt"),
            ("exit 1", "does not run there: no reason given; see .* or set `python` to another, 3.8 or newer"),
            ("echo 'no: cannot open shared object file' >&2; exit 127", r"not run there: it lacks a library \(no: "),
        ],
    )
    def test_too_old_or_broken(self, server: Sshd, tmp_path: Path, script: str, text: str) -> None:
        python = tmp_path / "old python"
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
        with server.device(python=str(python)) as device, fault("python", text, 5):
            device.run(["doctor"], print)

    @pytest.mark.parametrize(
        ("mode", "content", "reason"),
        [
            (
                0o644,
                b"#!/bin/sh\n",
                "permission denied; chmod 755 it, and if it is executable, its file system is",
            ),
            (0o755, b"\x7fELF\x02\x01\x01" + bytes(99), "exec format error: it is no program of this processor"),
            (None, b"", "not found; install it or correct the path"),
        ],
    )
    def test_one_that_does_not_start_says_why(
        self, server: Sshd, tmp_path: Path, mode: int | None, content: bytes, reason: str
    ) -> None:
        python = tmp_path / "its python"
        if mode is not None:
            python.write_bytes(content)
            python.chmod(mode)
        with server.device(python=str(python)) as device, fault("python", f"does not run there: {reason}", 5):
            device.run(["doctor"], print)

    def test_below_the_home_folder(self, server: Sshd) -> None:
        home = Path.home()
        folder = f"~/{os.path.relpath(server.store, home)}"
        with server.device(python=f"~/{os.path.relpath(sys.executable, home)}", folder=folder) as device:
            assert device.facts()["folder"] == str(server.store.resolve())
            assert device.facts()["python"] == ".".join(map(str, sys.version_info[:3]))

    def test_the_rest_works_without(self, server: Sshd, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("y")
        with server.device(python="no-python-there") as device:
            assert device.facts()["python"] is None
            assert device.shell(["cat", device.push(tmp_path / "x")]).text == "y"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_with_the_real_timeouts(server: Sshd, tmp_path: Path, number: int) -> None:
    disturbed = []
    with pytest.raises(DeviceFault) as caught, server.device(Timeouts()) as device:
        run_until(device, tmp_path, lambda: disturbed.append(time.monotonic()) or server.signal(number))
    assert time.monotonic() - disturbed[0] < 15
    assert caught.value.kind == "lost"
    assert left(server, disturbed[0] + 15 - time.monotonic()) == {}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a full disk needs the right to mount one ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
