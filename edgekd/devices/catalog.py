"""Devices by name: reads their YAML and opens the transport that it names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.devices import transports
from edgekd.devices.adb import AdbChannel
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.ssh import SshChannel
from edgekd.devices.ssh_words import host_variable
from edgekd.devices.transports import Transport
from edgekd.errors import InputError
from edgekd.recipe.load import bind
from edgekd.recipe.lookup import find
from edgekd.recipe.yaml_text import read_mapping

if TYPE_CHECKING:
    from edgekd.devices.contract import Device

transports.register(Transport("local", lambda spec, timeouts: LocalDevice(spec, turn_seconds=timeouts.turn)))
transports.register(Transport("ssh", lambda spec, timeouts: RemoteDevice(spec, SshChannel(spec, timeouts), timeouts)))
transports.register(Transport("adb", lambda spec, timeouts: RemoteDevice(spec, AdbChannel(spec, timeouts), timeouts)))


def load(name_or_path: str, search: Sequence[Path] = ()) -> DeviceSpec:
    """Read `<name>.yaml` from a path, the folders in `search`, `./devices`, or the built-in devices.

    The environment variable `EDGEKD_HOST_<NAME>` says where a device is, whatever its file says: `[user@]host[:port]`
    of ssh, the serial of adb, the address of a transport of another package.

    Raises:
        InputError: unknown, or one line per problem of its file.
    """
    path = find("devices", name_or_path, search)
    content = {"name": path.stem, **read_mapping(path)}
    if content["name"] != path.stem:
        raise InputError(f"{path}: name: got {content['name']!r}, allowed: that of the file; leave it out")
    return _beside(bind(DeviceSpec, _elsewhere(content, path), str(path)), path.parent)


def open_device(spec: DeviceSpec, turn_seconds: float = 0.0) -> Device:
    """Connect to a device; close it, or use it as a context manager.

    Args:
        turn_seconds: how long to wait for another run that is on the device.
    """
    return transports.transport(spec.transport).open(spec, Timeouts(turn=turn_seconds))


def _beside(spec: DeviceSpec, folder: Path) -> DeviceSpec:
    """Programs to push are looked up beside the device's file first, then in the current folder."""
    found = {
        runtime: tool.model_copy(update={"push": folder / tool.push})
        for runtime, tool in spec.tools.items()
        if tool.push and (folder / tool.push).exists()
    }
    return spec.model_copy(update={"tools": {**spec.tools, **found}}) if found else spec


def _elsewhere(content: dict[str, Any], path: Path) -> dict[str, Any]:
    variable = host_variable(str(content["name"]))
    given = os.environ.get(variable)
    if not given:
        return content
    if content.get("transport") == "adb":
        return {**content, "adb": {**(content.get("adb") or {}), "serial": given}}
    if content.get("transport", "local") not in transports.BUILT_IN:
        return _at(content, given, f"{path}: {variable}")
    user, _, address = given.rpartition("@")
    host, _, port = address.partition(":") if address.count(":") == 1 else (address, "", "")
    found = {"host": host, **({"user": user} if user else {}), **({"port": port} if port else {})}
    return {**content, "ssh": {**(content.get("ssh") or {}), **found}}


def _at(content: dict[str, Any], given: str, where: str) -> dict[str, Any]:
    """A device that is reached by a transport of another package, at a given address."""
    try:
        kind = transports.transport(str(content["transport"]))
    except KeyError:
        return content  # told with the other problems of the file
    if kind.address is None:
        raise InputError(f"{where}: transport {kind.name} has no address; unset the variable")
    return {**content, "options": {**(content.get("options") or {}), kind.address: given}}
