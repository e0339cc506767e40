"""How devices are reached: transports by name, built-in ones and those of other packages by `edgekd.transports`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edgekd import plugins
from edgekd.errors import unknown

if TYPE_CHECKING:
    from edgekd.devices.channel import Timeouts
    from edgekd.devices.contract import Device, DeviceSpec


class NoOptions(BaseModel):
    """Of a transport that has no keys of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Transport:
    """One way to reach devices.

    Attributes:
        name: as `transport` of a device's file has it.
        open: connects; see `Device`. `RemoteDevice(spec, channel, timeouts)` is one over any `Channel`.
        options: the keys of `options` in a device's file: a pydantic model that refuses unknown ones.
        address: the one of these keys that `EDGEKD_HOST_<NAME>` sets; None: the variable cannot say where such a
            device is.
    """

    name: str
    open: Callable[[DeviceSpec, Timeouts], Device]
    options: type[BaseModel] = NoOptions
    address: str | None = None

    def problems(self, options: Mapping[str, Any]) -> list[str]:
        """What is wrong with the options of a device's file, each with its key; empty if nothing is."""
        try:
            self.options.model_validate(options)
        except ValidationError as error:
            return [self._line(problem) for problem in error.errors(include_url=False)]
        return []

    def _line(self, problem: Any) -> str:
        place = ".".join(map(str, ("options", *problem["loc"])))
        if problem["type"] == "extra_forbidden":
            known = unknown("key", str(problem["loc"][-1]), self.options.model_fields)
            return f"{place}: {known}"
        message = problem["msg"].removeprefix("Value error, ")
        return f"{place}: {message[0].lower()}{message[1:]}"


BUILT_IN = ("local", "ssh", "adb")
_REGISTRY: dict[str, Transport] = {}


def register(transport: Transport) -> None:
    """Make a transport known. A second registration under one name raises."""
    if transport.name in _REGISTRY:
        raise ValueError(
            f"transport '{transport.name}' is registered twice: {_REGISTRY[transport.name]} and {transport}"
        )
    _REGISTRY[transport.name] = transport


def transport(name: str) -> Transport:
    """The transport of that name. Other packages are looked at where it is none of the built-in ones.

    Raises:
        KeyError: with the text for the user; the caller adds where the name stood.
    """
    import_module("edgekd.devices.catalog")  # registers the built-in ones
    if name not in BUILT_IN:
        plugins.load("edgekd.transports")
    if name not in _REGISTRY:
        raise KeyError(unknown("transport", name, _REGISTRY))
    return _REGISTRY[name]
