"""What edgekd asks of a device: transport only. Runtimes, telemetry and timing live in the agent that runs on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from edgekd.devices import transports
from edgekd.devices.providers import provider_problems
from edgekd.devices.tools.spec import ToolSpec, tool_problems

# Given to programs as arguments: nothing that one of them might take for an option, a path or shell text.
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*"
_Plain = Annotated[str, StringConstraints(pattern=f"^{_PLAIN}$", max_length=253)]


def _known_transport(name: str) -> str:
    try:
        return transports.transport(name).name
    except KeyError as error:
        raise ValueError(error.args[0]) from None


class SshSpec(BaseModel):
    """How `ssh` reaches a device. Whatever is left out, the user's ssh_config says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: _Plain | None = Field(
        default=None, description="name, address, or Host of ssh_config; default: the device's name"
    )
    user: _Plain | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    config: Path | None = Field(default=None, description="instead of ~/.ssh/config")
    identity_file: Path | None = Field(default=None, description="private key; no other is offered then")
    known_hosts: Path | None = Field(default=None, description="instead of the user's and edgekd's")


class AdbSpec(BaseModel):
    """Which of the phones that `adb devices` lists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    serial: _Plain | None = Field(
        default=None, description="serial number or address:port; default: the only one there is"
    )


class DeviceSpec(BaseModel):
    """One YAML file in `devices/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    transport: Annotated[str, AfterValidator(_known_transport)] = Field(
        "local", description="local, ssh, adb, or that of another package"
    )
    ssh: SshSpec = SshSpec()
    adb: AdbSpec = AdbSpec()
    options: dict[str, Any] = Field({}, description="keys of a transport of another package")
    python: str | None = Field(
        None, pattern=r"^[^\n\r-][^\n\r]*$", description="interpreter on the device that runs the agent"
    )
    folder: str | None = Field(None, min_length=1, description="what edgekd keeps on the device; relative: to its home")
    runtimes: tuple[str, ...] = Field(min_length=1, description="runtimes of the agent that this device has")
    optional: tuple[str, ...] = Field((), description="of these runtimes, those that need not be installed")
    threads: int | None = Field(
        None, ge=1, le=1024, description="inference threads; default: all cores the process may use"
    )
    providers: dict[str, tuple[str, ...]] = Field({}, description="where a runtime has to run; default: its CPU")
    provider_options: dict[str, dict[str, str | int | float | bool]] = Field({}, description="of its library")
    tools: dict[str, ToolSpec] = Field({}, description="runtime: program that times it; without `python`, the only way")
    emulated: bool = Field(False, description="its processor is played by a program: AP counts, latency does not")
    power_mode: str | None = Field(None, min_length=1, description="that it has to be in; never changed by edgekd")
    start_below_c: float | None = Field(None, gt=0, description="hottest sensor at the start of a measurement")
    stay_below_c: float | None = Field(None, gt=0, description="hottest sensor at all times; above: invalid")
    telemetry_seconds: float | None = Field(
        None, ge=0, le=3600, description="how often the state is read; 0: not; default 0.5"
    )
    cool_down_seconds: float | None = Field(
        None, ge=0, le=86_400, description="between two processes; default: the protocol's"
    )

    @model_validator(mode="after")
    def _providers_are_known(self) -> DeviceSpec:
        problems = [
            *transports.transport(self.transport).problems(self.options),
            *_name_problems(self),
            *_optional_problems(self.runtimes, self.optional),
            *provider_problems(self.runtimes, self.providers, self.provider_options),
            *tool_problems(self.tools, self.runtimes, self.python, self.providers),
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Stages are done again where this differs, and those of older versions had no options."""
        written: dict[str, Any] = handler(self)
        if not self.options:
            written.pop("options", None)
        return written

    @property
    def says_emulated(self) -> str | None:
        """In words, where the file says so; the agent may know it by itself."""
        return "its device file says so" if self.emulated else None

    @property
    def has_agent(self) -> bool:
        """Whether the agent runs there; where it does not, a program of its own times each artifact, and no AP is."""
        return not self.tools or self.python is not None


def _name_problems(spec: DeviceSpec) -> Iterator[str]:
    """ssh takes the name for that of the host, where there is no other, and so may a proxy of the user's ssh_config."""
    if spec.transport == "ssh" and spec.ssh.host is None and not re.fullmatch(_PLAIN, spec.name):
        yield "name: cannot be that of a host; set ssh.host, or name the file with letters, digits, '.', '_', '-'"


def _optional_problems(runtimes: Sequence[str], optional: Sequence[str]) -> Iterator[str]:
    for name in optional:
        if name not in runtimes:
            yield f"optional: {name}: is none of the device's runtimes ({', '.join(runtimes)})"
    if set(runtimes) <= set(optional):
        yield "optional: names every runtime; a device needs one at least, leave it out here"


class Reply(NamedTuple):
    """What a program on the device gave.

    Attributes:
        code: its exit code, as the device's own shell saw it.
        out, err: its standard output and error.
    """

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without the last newline."""
        return self.out.decode("utf-8", errors="replace").rstrip("\r\n")


class Device(Protocol):
    """A connected device; a context manager.

    Attributes:
        turn_seconds: how long a run waits for another that is on the device.
    """

    spec: DeviceSpec
    turn_seconds: float

    def facts(self) -> dict[str, Any]:
        """What can be said without the agent: system, machine, `free_bytes` of the store, `python`; None: not known."""
        ...

    def push(self, source: Path) -> str:
        """Bring a file or folder to the device by content hash; returns its path there."""
        ...

    def run(self, arguments: Sequence[str], on_event: Callable[[dict[str, Any]], None]) -> None:
        """Run the agent with `arguments`; hands over each JSON line; succeeds only on a whole end-of-run record.

        Raises:
            DeviceFault: the agent could not be started, died, or its output is incomplete.
        """
        ...

    def shell(self, arguments: Sequence[str], timeout_s: float = ...) -> Reply:
        """Run a program that is not the agent; each argument reaches it as it is. It ends with the time or the link.

        Raises:
            DeviceFault: it could not be run to its end.
        """
        ...

    def pull(self, remote: str, target: Path) -> None:
        """Fetch a file; what an earlier call left unfinished goes on.

        Raises:
            DeviceFault: there is none, or the connection broke: the same call goes on.
        """
        ...

    def close(self) -> None:
        """Leave nothing running on the device."""
        ...

    def __enter__(self) -> Device: ...

    def __exit__(self, *_: object) -> None: ...
