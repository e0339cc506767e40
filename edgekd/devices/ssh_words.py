"""What `ssh` says when it fails, and what to do then. Its exit code is 255, whatever happened."""

from __future__ import annotations

import re

from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault, Kind

_NOISE = re.compile(r"^(Warning: Permanently added|Pseudo-terminal|Connection to \S+ closed\.?$|mux_client|\**$|@)")

# The first that is found in what was said decides; texts are those of OpenSSH 7 to 10.
_KINDS: tuple[tuple[str, Kind, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|[Hh]ost key .*(has changed|mismatch)|REVOKED HOST KEY",
        "host_key",
        "its host key is not the one it had before: it was set up anew, or somebody sits in between; if you know why,"
        " 'edgekd doctor --device {name} --accept-host-key' shows the new key and trusts it",
    ),
    (
        r"host key is known for|Host key verification failed|Host key not found",
        "host_key",
        "its host key is unknown; 'edgekd doctor --device {name} --accept-host-key' shows and trusts it",
    ),
    (
        r"Permission denied|Too many authentication failures|[Aa]uthentication failed|No more authentication methods",
        "auth",
        "refuses this user ({said}); set ssh.user, and bring a key there with 'ssh-copy-id', or name one in"
        " ssh.identity_file",
    ),
    (
        r"Bad configuration option|Bad owner or permissions|terminating, .* bad configuration|[Bb]ad number",
        "unreachable",
        "ssh does not take its settings ({said}); correct your ssh_config",
    ),
    (
        r"ssh: not found|command not found",
        "tool_missing",
        "ssh is not installed here; install OpenSSH (apt install openssh-client)",
    ),
    (
        r"Could not resolve hostname|Name or service not known",
        "unreachable",
        "no such host ({said}); copy its YAML to ./devices/ and set ssh.host, or name it in ~/.ssh/config, or set"
        " {variable}",
    ),
)
_UNREACHABLE = "cannot be reached ({said}); see that it is on, in the network, and runs sshd at this address and port"
_LOST = "the connection broke ({said}); see that it is on and in the network: the same command goes on"


def fault_of(spec: DeviceSpec, said: str, *, connected: bool) -> DeviceFault:
    """The fault behind a failed or broken connection.

    Args:
        spec: of the device.
        said: standard error of ssh.
        connected: whether there was a connection before.
    """
    last = _last(said)
    for pattern, kind, remedy in _KINDS:
        if not connected and re.search(pattern, said):
            return _fault(spec, kind, remedy, last)
    return _fault(spec, "lost", _LOST, last) if connected else _fault(spec, "unreachable", _UNREACHABLE, last)


def host_variable(name: str) -> str:
    """The environment variable that says where a device is."""
    return "EDGEKD_HOST_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def _fault(spec: DeviceSpec, kind: Kind, remedy: str, said: str) -> DeviceFault:
    text = remedy.format(name=spec.name, said=said, variable=host_variable(spec.name))
    return DeviceFault(kind, f"device {spec.name}: {text}")


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    return lines[-1][:200] if lines else "without a word"
