"""A real sshd on loopback, as the current user, with keys of its own: it can be frozen, cut off and re-keyed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import Device, DeviceSpec, SshSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.ssh import SshChannel
from edgekd.testing.artifacts import write_artifact, write_pack
from tests.ports import free_port

# Where a fault shows by itself: a machine that halts for seconds is none.
PATIENT = Timeouts(
    connect=60, alive_interval=1, alive_count=60, command=100, transfer=100, quiet=3, busy=0.3, beat=0.3,
    host_silence=100, device_silence=100, stall=100,
)  # fmt: skip
# Short, so that silence need not be waited for; the real ones have a slow test.
HASTY = Timeouts(
    connect=3, alive_interval=1, alive_count=1, command=5, transfer=5, quiet=3, busy=0.3, beat=0.3, host_silence=2,
    device_silence=3, stall=20,
)  # fmt: skip
BUSY = 20  # so much longer may anything take where others use the machine: enough to tell it from waiting for ever
LONG_RUN = ["--min-seconds", "600", "--warmup-seconds", "0.1", "--threads", "1", "--telemetry-seconds", "0"]
_SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/local/bin:/usr/bin")


class Sshd:
    """The server and its keys, all below `folder`."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.store = folder / "store of 'the' device"
        self._extra = extra
        self._server: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        _new_key(folder / "host_key")
        _new_key(folder / "user_key")
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust()

    def start(self) -> None:
        lines = [
            f"Port {self.port}", "ListenAddress 127.0.0.1", f'HostKey "{self.folder}/host_key"', "StrictModes no",
            f'AuthorizedKeysFile "{str(self.folder).replace("%", "%%")}/authorized_keys"', "PidFile none", "UsePAM no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes", "MaxSessions 30",
            "MaxStartups 50", "SetEnv SHLVL=5", self._extra,  # bash reads no start-up file at that level
        ]  # fmt: skip
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        with (self.folder / "sshd.log").open("ab") as log:
            self._server = subprocess.Popen(
                [str(_SSHD), "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def stop(self) -> None:
        """End the server and every connection."""
        for pid in [*self.sessions(), *([self._server.pid] if self._server else [])]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._server:
            self._server.wait()

    def sessions(self) -> list[int]:
        """The sshd processes of open connections, not what they have started."""
        if self._server is None:
            return []
        return [pid for pid in _descendants(self._server.pid) if _name(pid).startswith("sshd")]

    def signal(self, number: int) -> None:
        """Freeze, thaw or kill every open connection at this end."""
        for pid in self.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def processes(self) -> dict[int, str]:
        """Processes whose command lines name the device's folder: what edgekd runs there."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.store) in line and not line.startswith("ssh "):
                        found[int(entry.name)] = line
        return found

    def trust(self) -> None:
        """Make the server's key the one that is known."""
        kind, key, *_ = (self.folder / "host_key.pub").read_text().split()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def change_key(self) -> None:
        """As after a new installation: takes effect with the next start."""
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink()
        _new_key(self.folder / "host_key")

    def spec(self, **more: object) -> DeviceSpec:
        ssh = SshSpec(
            host="127.0.0.1", port=self.port, config=_empty(self.folder), identity_file=self.folder / "user_key",
            known_hosts=self.folder / "known_hosts",
        )  # fmt: skip
        given = {"transport": "ssh", "ssh": ssh, "python": sys.executable, "folder": str(self.store), **more}
        return DeviceSpec(**{"name": "loop", "runtimes": ("onnxruntime",), **given})

    def device(self, timeouts: Timeouts = PATIENT, **more: object) -> RemoteDevice:
        spec = self.spec(**more)
        return RemoteDevice(spec, SshChannel(spec, timeouts), timeouts)


@contextlib.contextmanager
def running(folder: Path, extra: str = "") -> Iterator[Sshd]:
    """A server, or a skip with the reason."""
    if _SSHD is None or shutil.which("ssh") is None:
        pytest.skip("needs sshd and ssh (apt install openssh-server)")
    if os.geteuid() == 0:  # sshd insists on this folder then
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            pytest.skip(f"sshd needs /run/sshd, which cannot be made ({error.strerror})")
    server = Sshd(folder, extra)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def left(server: Sshd, seconds: float) -> dict[int, str]:
    """What edgekd still runs on the device after at most `seconds`."""
    deadline = time.monotonic() + BUSY * seconds
    while (found := server.processes()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def fault(kind: str, text: str, within_s: float) -> Iterator[None]:
    """What is raised, and in `within_s` on a machine that has nothing else to do."""
    started = time.monotonic()
    with pytest.raises(DeviceFault, match=text) as caught:
        yield
    assert caught.value.kind == kind, caught.value
    assert caught.value.exit_code == 4
    assert len(caught.value.problems) == 1
    assert time.monotonic() - started < BUSY * within_s


def run_until(device: Device, tmp_path: Path, disturb: Callable[[], object]) -> None:
    """A long run, disturbed once its first samples are there."""
    artifact, pack = write_artifact(tmp_path / "tiny"), write_pack(tmp_path)
    disturbed = []

    def on_event(event: dict[str, object]) -> None:
        if event["event"] == "samples" and not disturbed:
            disturbed.append(True)
            disturb()

    device.run(["profile", "--artifact", device.push(artifact), "--pack", device.push(pack), *LONG_RUN], on_event)


def _new_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _empty(folder: Path) -> Path:
    path = folder / "ssh_config"
    path.touch()
    return path


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found
