"""The device, running: an aarch64 sshd in namespaces of its own, of which nothing is left when this process is gone."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec, SshSpec
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.ssh import SshChannel
from edgekd.errors import EnvironmentFault
from tests.devicelab.build import built, require_builder
from tests.ports import free_port

NAME = "devicelab"
CPU = "cortex-a76"  # that of a Raspberry Pi 5
_INIT = Path(__file__).with_name("namespace.sh")
_TOOLS = ("unshare", "mount", "chroot", "ssh", "ssh-keygen")
_START_SECONDS = 60.0
# The code runs some 20 times slower than it would by itself.
PATIENT = Timeouts(command=60, beat=2, host_silence=10, device_silence=30, stall=300)


def why_not(cache: Path) -> str | None:
    """Why the device cannot run here, with the remedy; None: nothing is known to be in the way."""
    try:
        require_builder()
    except EnvironmentFault as fault:
        return str(fault)
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"devicelab: {', '.join(missing)}: not here; apt install util-linux openssh-client"
    formats = Path("/proc/filesystems").read_text()
    if "binfmt_misc" not in formats and subprocess.run(["modprobe", "binfmt_misc"], check=False).returncode != 0:
        return "devicelab: this kernel has no binfmt_misc"
    if not _own_formats() and not Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists():
        return (
            f"devicelab: Linux {platform.release()} has no binary formats per namespace (6.7 has);"
            " apt install qemu-user-static registers them for all"
        )
    if built(cache) is None:
        return f"devicelab: not built in {cache}; run 'make devicelab'"
    return None


class Lab:
    """A context manager around the running device.

    Args:
        folder: for keys and settings.
        cache: in which the device was built.
        disk_mb: of its home folder, in memory.

    Raises:
        EnvironmentFault: it cannot run here, or does not start.
    """

    def __init__(self, folder: Path, cache: Path, disk_mb: int = 512) -> None:
        reason = why_not(cache)
        device = built(cache)
        if reason or device is None:
            raise EnvironmentFault(reason or f"devicelab: not built in {cache}")
        self.port = free_port()
        self._folder = folder
        self._device = device
        self._disk_mb = disk_mb
        self._init: subprocess.Popen[str] | None = None
        self._config = folder / "etc"
        self._config.mkdir(parents=True)
        for name in ("host_key", "user_key"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", NAME, "-f", str(folder / name)]
            subprocess.run(key, check=True)
        shutil.copy(folder / "host_key", self._config)
        shutil.copy(folder / "user_key.pub", self._config / "authorized_keys")
        (self._config / "sshd_config").write_text("\n".join(self._settings()) + "\n")
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        (folder / "ssh_config").touch()

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; returns when its sshd answers.

        Raises:
            EnvironmentFault: it does not.
        """
        apart = ["--user", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        device = (str(self._device.root), str(self._device.emulator), str(self._config), CPU, str(self._disk_mb))
        with (self._folder / "sshd.log").open("ab") as log:
            self._init = subprocess.Popen(
                ["unshare", *apart, "sh", str(_INIT), *device],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        try:
            with _limited(self._init, _START_SECONDS):
                self._expect("waiting")
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{self._init.pid}/{name}").write_text("0 0 4294967295")
                self._tell("mapped")
                self._expect("running")
                self._await_answer(_START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and all that runs on it."""
        if self._init is None:
            return
        assert self._init.stdin is not None and self._init.stdout is not None
        with contextlib.suppress(OSError):
            self._init.stdin.close()
        try:
            self._init.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._init.pid, signal.SIGKILL)
            self._init.wait()
        self._init.stdout.close()
        self._init = None

    def cut(self) -> None:
        """Pull its plug."""
        assert self._init is not None
        os.killpg(self._init.pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """What runs on it, as this machine sees it: ids and command lines, its first process left out."""
        return running_below(self._init.pid) if self._init else {}

    def spec(self, **more: Any) -> DeviceSpec:
        """How to reach it."""
        ssh = SshSpec(
            host="127.0.0.1", port=self.port, user="root", config=self._folder / "ssh_config",
            identity_file=self._folder / "user_key", known_hosts=self._folder / "known_hosts",
        )  # fmt: skip
        given: dict[str, Any] = {"threads": 1, "telemetry_seconds": 0, **more}
        return DeviceSpec(name=NAME, transport="ssh", ssh=ssh, runtimes=("onnxruntime",), **given)

    def device(self, timeouts: Timeouts = PATIENT, **more: Any) -> RemoteDevice:
        """A connection."""
        spec = self.spec(**more)
        return RemoteDevice(spec, SshChannel(spec, timeouts), timeouts)

    def write_yaml(self, folder: Path, **more: Any) -> Path:
        """A file for `devices:` of a recipe, or `--device`."""
        content = self.spec(**more).model_dump(mode="json", exclude_defaults=True)
        path = folder / f"{NAME}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    def _settings(self) -> list[str]:
        return [
            f"Port {self.port}", "ListenAddress 127.0.0.1", "HostKey /etc/ssh/host_key", "StrictModes no",
            "AuthorizedKeysFile /etc/ssh/authorized_keys", "PidFile none", "UsePAM no", "PasswordAuthentication no",
            "KbdInteractiveAuthentication no", "PermitRootLogin yes", "MaxSessions 30",
            f"SetEnv QEMU_CPU={CPU} PYTHONPYCACHEPREFIX=/tmp/compiled",  # wheels come as source, to a disk that stays
        ]  # fmt: skip

    def _expect(self, word: str) -> None:
        assert self._init is not None and self._init.stdout is not None
        said = self._init.stdout.readline().strip()
        if said != word:
            log = " ".join((self._folder / "sshd.log").read_text(errors="replace").split())[-200:]
            raise EnvironmentFault(f"devicelab: does not start: {said or 'ended'} ({log}); run it on a plain Linux")

    def _tell(self, word: str) -> None:
        assert self._init is not None and self._init.stdin is not None
        self._init.stdin.write(f"{word}\n")
        self._init.stdin.flush()

    def _await_answer(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
            time.sleep(0.05)
        log = " ".join((self._folder / "sshd.log").read_text(errors="replace").split())[-200:]
        raise EnvironmentFault(f"devicelab: its sshd does not answer ({log}); run it again")


def running_below(pid: int) -> dict[int, str]:
    """Ids and command lines of the processes that descend from the first process of the namespace of `pid`."""
    found: dict[int, str] = {}
    first = _children(pid)
    todo = [child for one in first for child in _children(one)]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError):
            if line := Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip():
                found[one] = line
        todo += _children(one)
    return found


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _own_formats() -> bool:
    """Whether a namespace has binary formats of its own."""
    numbers = platform.release().split(".")[:2]
    return tuple(int("".join(digit for digit in number if digit.isdigit()) or 0) for number in numbers) >= (6, 7)


@contextlib.contextmanager
def _limited(process: subprocess.Popen[str], seconds: float) -> Any:
    """Kill a process that has not come to the end of the block in time."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
