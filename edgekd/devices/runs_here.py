"""What a device's file makes run on this machine: whoever takes one from a stranger should know before."""

from __future__ import annotations

from edgekd.devices.contract import DeviceSpec
from edgekd.devices.tools.spec import PROGRAMS


def runs_here(spec: DeviceSpec) -> list[str]:
    """Programs in words, other than edgekd's own agent under its own Python; empty for most devices."""
    found = []
    if spec.transport == "local":
        found += [f"python: {spec.python}"] if spec.python else []
        found += [
            f"tools.{runtime}: {tool.push or tool.program or PROGRAMS[runtime]}" for runtime, tool in spec.tools.items()
        ]
    if spec.transport == "ssh" and spec.ssh.config:
        found.append(f"ssh.config: {spec.ssh.config}, which may name programs (ProxyCommand)")
    return found
