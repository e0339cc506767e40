"""The command line of `ssh`: what edgekd insists on. All else is the user's ssh_config."""

from __future__ import annotations

import os
from pathlib import Path

from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault

_SYSTEM_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_ALWAYS = (
    "BatchMode=yes", "ControlPersist=no", "ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no",
    "PermitLocalCommand=no", "RemoteCommand=none", "RequestTTY=no", "UpdateHostKeys=no", "LogLevel=INFO",
)  # fmt: skip


def accepted_keys() -> Path:
    """Host keys that were accepted by `edgekd doctor --accept-host-key`."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "edgekd" / "known_hosts"


def destination(spec: DeviceSpec) -> str:
    """Where to connect to: without a host of its own, the device's name, for which ssh_config may have a `Host`."""
    return spec.ssh.host or spec.name


def connection_options(spec: DeviceSpec, timeouts: Timeouts) -> list[str]:
    """All but what says which host keys are known."""
    ssh = spec.ssh
    options = [word for option in _ALWAYS for word in ("-o", option)]
    options += ["-o", f"ConnectTimeout={max(1, round(timeouts.connect))}"]
    options += ["-o", f"ServerAliveInterval={timeouts.alive_interval}"]
    options += ["-o", f"ServerAliveCountMax={timeouts.alive_count}"]
    options += ["-F", str(_existing(spec, "config", ssh.config))] if ssh.config else []
    options += ["-l", ssh.user] if ssh.user else []
    options += ["-p", str(ssh.port)] if ssh.port else []
    if ssh.identity_file:
        identity = _existing(spec, "identity_file", ssh.identity_file)
        options += ["-o", f"IdentityFile={_word(identity)}", "-o", "IdentitiesOnly=yes"]
    return options


def known_hosts_options(spec: DeviceSpec) -> list[str]:
    """Unknown keys are refused; known are the user's, the system's and edgekd's, or those of the device's own file."""
    strict = ["-o", "StrictHostKeyChecking=yes"]
    if spec.ssh.known_hosts:
        # None of the others, in either role.
        own = _word(spec.ssh.known_hosts.expanduser())
        return [*strict, "-o", f"UserKnownHostsFile={own}", "-o", "GlobalKnownHostsFile=/dev/null"]
    # The user's list stays as ssh_config has it; edgekd's goes beside that of the system.
    files = " ".join([*_SYSTEM_KNOWN_HOSTS, _word(accepted_keys(), tokens=False)])
    return [*strict, "-o", f"GlobalKnownHostsFile={files}"]


def _existing(spec: DeviceSpec, key: str, path: Path) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise DeviceFault(
            "auth", f"device {spec.name}: ssh.{key}: {path}: no such file; correct it in the device's YAML"
        )
    return path


def _word(path: Path, *, tokens: bool = True) -> str:
    """A path as ssh reads it in an option: quoted, and without the meaning of a percent sign, where it has one."""
    text = str(path).replace('"', '\\"')
    return f'"{text.replace("%", "%%") if tokens else text}"'
