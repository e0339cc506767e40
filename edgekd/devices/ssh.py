"""OpenSSH: one connection that all commands share, made by the user's own `ssh` with the user's own settings.

What differs from a plain `ssh HOST`: it never asks, never trusts an unknown host key, notices a link that has gone
dead, forwards nothing, and reads keys that were accepted by `edgekd doctor --accept-host-key` beside the user's.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO

from edgekd.devices import stream
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.ssh_options import connection_options, destination, known_hosts_options
from edgekd.devices.ssh_words import fault_of

_SSH_FAILED = 255
_POLL_SECONDS = 0.02
_ENDING_SECONDS = 2.0
_GRACE_SECONDS = 3.0  # a proxy does not count towards ConnectTimeout

# Ends ssh when this program is gone (end of the stream that it holds), and ends when ssh does. $1: the socket's folder.
_GUARD = (
    'exec 3<&0; folder=$1; shift; "$@" </dev/null 3<&- & ssh=$!; (read -r _ <&3; kill $ssh) & guard=$!; exec 3<&-;'
    ' wait $ssh; code=$?; kill $guard; rmdir "$folder" 2>/dev/null; exit $code'
)


class SshChannel:
    """A master connection, and commands through it.

    Args:
        spec: of the device; `spec.ssh` says where it is.
        timeouts: how long to wait.
    """

    default_folder = ".cache/edgekd"
    default_python: str | None = "python3"

    def __init__(self, spec: DeviceSpec, timeouts: Timeouts) -> None:
        self._spec = spec
        self._timeouts = timeouts
        self._folder: Path | None = None
        self._said: IO[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._connected = False

    def open(self) -> None:
        """Connect.

        Raises:
            DeviceFault: no ssh, not reachable, unknown host key, or not let in.
        """
        options = [*connection_options(self._spec, self._timeouts), *known_hosts_options(self._spec)]
        # A socket's path may have some 100 bytes, so it cannot lie in just any temporary folder.
        self._folder = Path(tempfile.mkdtemp(prefix="edgekd-", dir="/tmp" if Path("/tmp").is_dir() else None))
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the connection
        command = ["ssh", "-N", "-M", "-S", str(self._socket), *options, "--", destination(self._spec)]
        try:
            self._master = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", str(self._folder), *command],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True,
            )  # fmt: skip
            self._await_socket(self._timeouts.connect + _GRACE_SECONDS)
        except BaseException:
            self.close()
            raise

    def command(self, text: str) -> list[str]:
        """Through the master alone: without it, the proxy that fails keeps `ssh` from a connection of its own."""
        shared = ["-F", "none", "-S", str(self._socket), "-o", "ControlMaster=no", "-o", "BatchMode=yes"]
        return ["ssh", *shared, "-o", "ProxyCommand=exit 255", "-o", "LogLevel=ERROR", "-T", "--", "device", text]

    def why(self, errors: str, code: int) -> DeviceFault | None:
        """What the master said last, if it is gone, or about to go: the code is 255 where ssh itself fails."""
        assert self._master is not None
        if code != _SSH_FAILED and self._master.poll() is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._master.wait(_ENDING_SECONDS)
        return None if self._master.poll() is None else self._fault()

    def close(self) -> None:
        """Disconnect."""
        if self._master is not None:
            assert self._master.stdin is not None
            self._master.stdin.close()  # the guard ends ssh, which tells the device
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._master.wait(_ENDING_SECONDS)
            stream.stop(self._master)
        if self._said is not None:
            self._said.close()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._socket.unlink(missing_ok=True)
                self._folder.rmdir()
        self._master = self._said = self._folder = None

    @property
    def _socket(self) -> Path:
        assert self._folder is not None
        return self._folder / "s"

    def _await_socket(self, seconds: float) -> None:
        """Return once the connection stands."""
        assert self._master is not None
        deadline = time.monotonic() + seconds
        while not self._socket.is_socket():
            if self._master.poll() is not None:
                raise self._fault()
            if time.monotonic() > deadline:
                raise fault_of(self._spec, f"no connection after {seconds:.0f} s (timed out)", connected=False)
            time.sleep(_POLL_SECONDS)
        self._connected = True

    def _fault(self) -> DeviceFault:
        assert self._said is not None
        self._said.seek(0)
        return fault_of(self._spec, self._said.read().decode("utf-8", errors="replace"), connected=self._connected)
