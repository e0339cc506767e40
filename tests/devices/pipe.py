"""A transport of another package: a shell in a folder of this machine, as one in a container or on a board would be."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec
from edgekd.devices.faults import DeviceFault
from edgekd.devices.remote import RemoteDevice
from edgekd.devices.transports import Transport


class PipeOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    shell: str = Field("sh", min_length=1, description="what evaluates commands")
    patience_s: int = Field(5, ge=1)


class PipeChannel:
    default_folder = ".cache/edgekd"
    default_python: str | None = "python3"

    def __init__(self, spec: DeviceSpec) -> None:
        self._options = PipeOptions.model_validate(spec.options)
        self._where = f"device {spec.name}"

    def open(self) -> None:
        if not Path("/bin", self._options.shell).exists():
            raise DeviceFault("tool_missing", f"{self._where}: no shell '{self._options.shell}'; set options.shell")

    def command(self, text: str) -> list[str]:
        return [self._options.shell, "-c", text]

    def why(self, errors: str, code: int) -> DeviceFault | None:
        return None

    def close(self) -> None:
        pass


def opened(spec: DeviceSpec, timeouts: Timeouts) -> RemoteDevice:
    return RemoteDevice(spec, PipeChannel(spec), timeouts)


PIPE = Transport("pipe", opened, PipeOptions, address="shell")
