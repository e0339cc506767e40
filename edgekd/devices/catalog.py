"""Devices by name: reads their YAML and opens the transport that it names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.devices.contract import DeviceSpec
from edgekd.devices.local import LocalDevice
from edgekd.recipe.load import bind, read_yaml
from edgekd.recipe.lookup import find

if TYPE_CHECKING:
    from edgekd.devices.contract import Device

_TRANSPORTS = {"local": LocalDevice}


def load(name_or_path: str, search: Sequence[Path] = ()) -> DeviceSpec:
    """Read `<name>.yaml` from a path, the folders in `search`, `./devices`, or the built-in devices.

    Raises:
        InputError: unknown, or one line per problem of its file.
    """
    path = find("devices", name_or_path, search)
    return bind(DeviceSpec, {"name": path.stem, **read_yaml(path)}, str(path))


def open_device(spec: DeviceSpec) -> Device:
    """Connect to a device; close it, or use it as a context manager."""
    return _TRANSPORTS[spec.transport](spec)
