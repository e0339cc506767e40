# SPDX-License-Identifier: Apache-2.0
"""What the agent says: JSON lines, closed by a record of their count and hash.

A run is whole if and only if its last line is `{"event": "end", "count": <lines before>, "sha256": <of their bytes>}`.
An exit code proves nothing: a link or a shell may turn a killed program into a success.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Dict, Iterator, Optional

if TYPE_CHECKING:
    import numpy.typing as npt

Event = Dict[str, Any]

HEARTBEAT_SECONDS = 10.0
HEARTBEAT_CAP_SECONDS = 3600.0


class AgentError(Exception):
    """A failure that the agent can name.

    Args:
        kind: `artifact`, `pack`, `runtime`, `usage`, or for anything unforeseen the name of the exception.
        message: one line for the user.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class UsageError(AgentError):
    """The command line is none that the agent reads.

    Args:
        usage: what it reads, a line or more.
    """

    def __init__(self, message: str, usage: str) -> None:
        super().__init__("usage", message)
        self.usage = usage


class IncompleteError(Exception):
    """The lines are not what a whole run writes."""


def encode(event: Event) -> bytes:
    """One event as a line of bytes. Decoding and encoding again gives the same bytes."""
    return json.dumps(event, separators=(",", ":"), allow_nan=False).encode("utf-8") + b"\n"


class Writer:
    """Writes events to a binary stream and keeps count and hash of them. Threads may share one."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._count = 0
        self._lock = threading.Lock()

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event at once."""
        line = encode({"event": event, **fields})
        with self._lock:
            self._digest.update(line)
            self._count += 1
            self._stream.write(line)
            self._stream.flush()

    def end(self) -> None:
        """Write the end record; nothing may follow it."""
        self.emit("end", count=self._count, sha256=self._digest.hexdigest())


@contextmanager
def heartbeats(
    writer: Writer, doing: str, every_s: float = HEARTBEAT_SECONDS, cap_s: float = HEARTBEAT_CAP_SECONDS
) -> Iterator[None]:
    """Say now and then what goes on while the block runs: silence is how the host knows a dead agent.

    A block that runs for longer than `cap_s` is taken for dead, and said no more of.

    Args:
        doing: what to say, e.g. `loading the model`.
    """
    done = threading.Event()

    def beat() -> None:
        started = time.monotonic()
        while not done.wait(every_s) and time.monotonic() - started < cap_s:
            try:
                writer.emit("heartbeat", doing=doing, seconds=round(time.monotonic() - started, 1))
            except (OSError, ValueError):
                return  # nobody listens any more; the main thread finds out by itself

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Reader:
    """Reads what a `Writer` wrote; used by the host."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._count = 0
        self.complete = False

    def feed(self, line: bytes) -> Event:
        """The event of one line.

        Raises:
            IncompleteError: not JSON, after the end, or an end record that does not fit the lines before it.
        """
        if self.complete:
            raise IncompleteError(f"line {self._count + 2} follows the end record")
        try:
            event = json.loads(line.decode("utf-8"))
            name = event["event"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise IncompleteError(f"line {self._count + 1} is not an event: {line[:80]!r}") from error
        if name == "end":
            self._check_end(event)
        self._digest.update(line)
        self._count += 1
        return dict(event)

    def _check_end(self, event: Event) -> None:
        if event.get("count") != self._count:
            raise IncompleteError(f"the end record counts {event.get('count')} lines, {self._count} arrived")
        if event.get("sha256") != self._digest.hexdigest():
            raise IncompleteError("the hash in the end record is not that of the lines that arrived")
        self.complete = True


def pack_array(array: npt.NDArray[Any]) -> Event:
    """An array as JSON: exact, and many times faster to write and read than a list of decimals."""
    import numpy as np

    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def unpack_array(packed: Event) -> npt.NDArray[Any]:
    """The array of `pack_array`."""
    import numpy as np

    dtype = np.dtype(packed["dtype"]).newbyteorder("<")
    flat = np.frombuffer(base64.b64decode(packed["base64"]), dtype=dtype)
    array: npt.NDArray[Any] = flat.reshape(packed["shape"]).astype(dtype.newbyteorder("="))
    return array


def claim_stdout() -> BinaryIO:
    """Standard output for events alone; whatever a library prints goes to standard error from now on."""
    sys.stdout.flush()
    stream: Optional[BinaryIO] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    assert stream is not None
    return stream
