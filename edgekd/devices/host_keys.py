"""Trusts the key of a host, on the user's word: `edgekd doctor --device NAME --accept-host-key`."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from edgekd.atomic import write_text
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.ssh_options import accepted_keys, connection_options, destination
from edgekd.devices.ssh_words import fault_of


class Accepted(NamedTuple):
    """A key that is trusted from now on.

    Attributes:
        fingerprint: e.g. `SHA256:... (ED25519)`.
        replaced: fingerprint of the other key that this host had in the same file.
        file: where it is kept.
    """

    fingerprint: str
    replaced: str | None
    file: Path


def accept(spec: DeviceSpec, timeouts: Timeouts | None = None) -> Accepted:
    """Ask a host for its key, by the same way as every connection goes, and keep it.

    Raises:
        DeviceFault: the host cannot be reached, or ssh is missing.
    """
    file = spec.ssh.known_hosts.expanduser() if spec.ssh.known_hosts else accepted_keys()
    lines = _offered(spec, timeouts or Timeouts())
    hosts = {line.split()[0] for line in lines}
    before = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    old = [line for line in before if line.split()[:1] and line.split()[0] in hosts]
    kept = [line for line in before if line not in old]
    write_text(file, "\n".join([*kept, *lines]) + "\n")
    changed = bool(old) and set(old) != set(lines)
    return Accepted(_fingerprint(lines), _fingerprint(old) if changed else None, file)


def _offered(spec: DeviceSpec, timeouts: Timeouts) -> list[str]:
    """Lines for a known_hosts file, from a connection that ends before anybody logs in."""
    with tempfile.TemporaryDirectory(prefix="edgekd-") as folder:
        found = Path(folder) / "found"
        command = [
            "ssh", *connection_options(spec, timeouts), "-S", "none",
            "-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={found}",
            "-o", "GlobalKnownHostsFile=/dev/null", "-o", "HashKnownHosts=no", "-o", "CheckHostIP=no",
            "-o", "PreferredAuthentications=none", "-T", "--", destination(spec), "exit",
        ]  # fmt: skip
        limit_s = timeouts.connect + 5
        try:
            ended = subprocess.run(
                command, check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s,
                encoding="utf-8", errors="replace",
            )  # fmt: skip
            said = ended.stderr
        except OSError as error:
            raise DeviceFault(
                "tool_missing", f"device {spec.name}: ssh cannot be started ({error.strerror}); install OpenSSH"
            ) from error
        except subprocess.TimeoutExpired:
            said = f"no connection after {limit_s:.0f} s"
        lines = found.read_text(encoding="utf-8").splitlines() if found.is_file() else []
    if not lines:
        raise fault_of(spec, said, connected=False)
    return lines


def _fingerprint(lines: list[str]) -> str:
    ended = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], check=False, input="\n".join(lines) + "\n", capture_output=True, text=True
    )
    return ", ".join(f"{words[1]} {words[-1]}" for line in ended.stdout.splitlines() if len(words := line.split()) > 2)
