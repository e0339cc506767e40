"""What edgekd asks of a device: transport only. Runtimes, telemetry and timing live in the agent that runs on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field


class DeviceSpec(BaseModel):
    """One YAML file in `devices/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    transport: Literal["local"] = "local"
    runtimes: tuple[str, ...] = Field(min_length=1, description="runtimes of the agent that this device has")
    threads: int | None = Field(None, ge=1, description="inference threads; default: all cores the process may use")


class Device(Protocol):
    """A connected device; a context manager."""

    spec: DeviceSpec

    def push(self, source: Path) -> str:
        """Bring a file or folder to the device by content hash; returns its path there."""
        ...

    def run(self, arguments: Sequence[str], on_event: Callable[[dict[str, Any]], None]) -> None:
        """Run the agent with `arguments`; hands over each JSON line; succeeds only on a whole end-of-run record.

        Raises:
            EnvironmentFault: the agent could not be started, died, or its output is incomplete.
        """
        ...

    def close(self) -> None:
        """Leave nothing running on the device."""
        ...

    def __enter__(self) -> Device: ...

    def __exit__(self, *_: object) -> None: ...
