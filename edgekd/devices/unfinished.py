"""What a measurement of several processes has got so far: a fault costs the process that it hits, none before."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.agent.protocol import encode
from edgekd.atomic import sha256_json, write_bytes

Event = dict[str, Any]

_HOURS = 12  # later, the device is taken for another: warmer, updated, in another power mode


class Unfinished:
    """Events of finished processes, in `<record>.partial`.

    Args:
        record: where all events will be; None keeps nothing.
        about: everything that the measurement depends on, as JSON values; what was kept under another is dropped.
    """

    def __init__(self, record: Path | None, about: Mapping[str, Any]) -> None:
        self._record = record
        self._path = None if record is None else _partial(record)
        self._key = sha256_json(dict(about))
        self.processes: list[list[Event]] = self._kept()

    def add(self, events: list[Event]) -> None:
        """Keep the events of a process that has ended."""
        self.processes.append(events)
        if self._path is not None:
            lines = [json.dumps({"key": self._key}), *(json.dumps(process) for process in self.processes)]
            write_bytes(self._path, "\n".join(lines).encode() + b"\n")

    def finish(self, keep: bool = False) -> None:
        """Write all events, in order, as JSON lines.

        Args:
            keep: until `forget`, the same measurement finds itself done: it is a part of one that goes on.
        """
        if self._record is not None:
            write_bytes(self._record, b"".join(encode(event) for process in self.processes for event in process))
            if not keep:
                forget(self._record)

    def _kept(self) -> list[list[Event]]:
        if self._path is None or not self._path.is_file():
            return []
        if abs(time.time() - self._path.stat().st_mtime) > _HOURS * 3600:  # clocks are set back, too
            return []
        try:
            head, *processes = (json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines())
        except ValueError:
            return []
        return processes if head.get("key") == self._key else []


def forget(record: Path) -> None:
    """What is done is done: the same measurement begins anew."""
    _partial(record).unlink(missing_ok=True)


def _partial(record: Path) -> Path:
    return record.with_name(record.name + ".partial")
