"""Android phones, through `adb`. Its exit code says little: `connect` fails with 0, and so does a command whose phone
was unplugged."""

from __future__ import annotations

import re
import subprocess

from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault, Kind

_CONNECTED = re.compile(r"^(already )?connected to ", re.MULTILINE)
_ROW = re.compile(r"^(?P<serial>\S+)\s+(?P<state>device|offline|unauthorized|authorizing|recovery|no permissions)\b")

# The first that is found in what was said decides.
_KINDS: tuple[tuple[str, Kind, str], ...] = (
    (r"unauthorized|authorizing", "auth", "does not let this computer in; unlock it and allow USB debugging"),
    (r"no permissions|insufficient permissions", "auth", "may not be opened by this user; add its udev rule (plugdev)"),
    (r"more than one", "unreachable", "is one of several; set adb.serial to one that 'adb devices' lists"),
    (
        r"not found|no devices|offline|closed|cannot connect|failed to connect|disconnected|protocol fault",
        "unreachable",
        "cannot be reached ({said}); plug it in, switch USB debugging on, and see that 'adb devices' lists it",
    ),
)


class AdbChannel:
    """Commands through `adb shell`.

    Args:
        spec: of the device; `spec.adb.serial` says which it is.
        timeouts: how long to wait.
        adb: the program.
    """

    default_folder = "/data/local/tmp/edgekd"
    default_python: str | None = None

    def __init__(self, spec: DeviceSpec, timeouts: Timeouts, adb: str = "adb") -> None:
        self._where = f"device {spec.name}"
        self._wanted = spec.adb.serial
        self._serial = ""
        self._timeouts = timeouts
        self._adb = adb
        self._connected = False

    def open(self) -> None:
        """Find the phone, over the network if its serial is an address.

        Raises:
            DeviceFault: no adb, no phone, several, or one that does not let this computer in.
        """
        self._call("start-server")
        if self._wanted and ":" in self._wanted:
            said = self._call("connect", self._wanted)
            if not _CONNECTED.search(said):
                raise self._fault(said)
        self._serial = self._wanted or self._only()
        state = self._call("-s", self._serial, "get-state")
        if state.strip() != "device":
            raise self._fault(state)
        self._connected = True

    def command(self, text: str) -> list[str]:
        """Without a terminal, which would change bytes on their way."""
        return [self._adb, "-s", self._serial, "shell", "-T", text]

    def why(self, errors: str, code: int) -> DeviceFault | None:
        """The phone is asked whether it is there: the exit code of a command that broke may be 0."""
        try:
            said = self._call("-s", self._serial, "get-state")
        except DeviceFault as fault:
            return fault
        return None if said.strip() == "device" else self._fault(f"{errors}\n{said}")

    def close(self) -> None:
        """Nothing: adb's server stays, as it was there before or will be needed again."""

    def _only(self) -> str:
        rows = [match for line in self._call("devices").splitlines() if (match := _ROW.match(line))]
        if len(rows) > 1:
            listed = ", ".join(row["serial"] for row in rows)
            raise DeviceFault(
                "unreachable", f"{self._where}: there are several ({listed}); set adb.serial to one of them"
            )
        if not rows:
            raise self._fault("no devices found")
        return str(rows[0]["serial"])

    def _call(self, *arguments: str) -> str:
        """What adb says, on either stream, whatever its exit code."""
        try:
            ended = subprocess.run(
                [self._adb, *arguments], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, timeout=self._timeouts.connect, encoding="utf-8", errors="replace",
            )  # fmt: skip
        except OSError as error:
            raise DeviceFault(
                "tool_missing",
                f"{self._where}: {self._adb} cannot be started ({error.strerror}); install it (apt install adb)",
            ) from error
        except subprocess.TimeoutExpired as error:
            seconds = self._timeouts.connect
            raise DeviceFault(
                "silent", f"{self._where}: adb {arguments[-1]}: no answer for {seconds:.0f} s; run 'adb kill-server'"
            ) from error
        return ended.stdout

    def _fault(self, said: str) -> DeviceFault:
        last = (said.strip().splitlines() or ["without a word"])[-1].strip()[:200]
        for pattern, kind, remedy in _KINDS:
            if re.search(pattern, said):
                found: Kind = "lost" if self._connected and kind == "unreachable" else kind
                return DeviceFault(found, f"{self._where}: {remedy.format(said=last)}")
        return DeviceFault("lost" if self._connected else "unreachable", f"{self._where}: adb failed ({last})")
