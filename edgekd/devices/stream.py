"""What every transport does with a running program: reads its lines, waits no longer than it should, stops it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from edgekd.agent.protocol import IncompleteError, Reader
from edgekd.devices.faults import DeviceFault, Kind
from edgekd.errors import Bug, EdgekdError

OnEvent = Callable[[dict[str, Any]], None]

STALL_SECONDS = 180.0
_POLL_SECONDS = 1.0
_CHUNK_BYTES = 1 << 16
MOST_LINE_BYTES = 64_000_000  # samples of a long run come in one line
_TAIL_BYTES = 64_000


def follow(said: Iterable[bytes], on_event: OnEvent, where: str, errors: IO[bytes]) -> bool:
    """Hand over each event as it comes, the end record last.

    Args:
        said: the agent's lines.
        where: start of every message.
        errors: its standard error.

    Returns:
        True at the end record of a whole output; False if the output ended before.

    Raises:
        DeviceFault: the agent reported an error, or the output is damaged or forged.
        Bug: it cannot read what edgekd told it to do.
    """
    reader = Reader()
    try:
        for line in said:
            event = reader.feed(line)
            if event["event"] == "error":
                raise _reported(event, where)
            _hand_over(event, on_event, where)
            if reader.complete:
                break
    except IncompleteError as error:
        raise DeviceFault("incomplete", f"{where}: output is damaged: {error}{tail(errors)}; run it again") from error
    return reader.complete


def lines(
    process: subprocess.Popen[bytes], where: str, stall_s: float, signs: IO[bytes] | None = None, silence_s: float = 0.0
) -> Iterator[bytes]:
    """Whole lines as they come; what a dying program leaves of a line is no line.

    Args:
        process: whose standard output is read.
        where: start of every message.
        stall_s: how long it may say nothing.
        signs: grows while the other end is alive, whatever the program does.
        silence_s: how long neither may grow.

    Raises:
        DeviceFault: nothing came for too long.
    """
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), bytearray()
    heard = alive = time.monotonic()
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if selector.select(min(stall_s, _POLL_SECONDS)):
                chunk = os.read(descriptor, _CHUNK_BYTES)
                if not chunk:
                    return
                heard = alive = time.monotonic()
                rest += chunk
                if b"\n" in chunk:
                    *whole, rest = rest.split(b"\n")
                    for line in whole:
                        yield bytes(line) + b"\n"
                if len(rest) > MOST_LINE_BYTES:
                    what = f"a line of more than {MOST_LINE_BYTES:,} bytes"
                    raise DeviceFault("incomplete", f"{where}: sent {what}, which no agent does; see what runs there")
                continue
            now = time.monotonic()
            if signs is not None and (grown := os.fstat(signs.fileno()).st_size) != size:
                size, alive = grown, now
            if now - heard >= stall_s or (signs is not None and now - alive >= silence_s):
                quiet_s = now - heard
                raise DeviceFault("silent", f"{where}: said nothing for {quiet_s:.0f} s and was stopped; run it again")


def tail(errors: IO[bytes]) -> str:
    """The last line of a program's standard error, as an addition to a message."""
    errors.seek(max(errors.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
    said = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return f"; it said: {said[-1][:200]}" if said else ""


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that leads a session of its own, and whatever it started there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def heartbeat(stream: IO[bytes], every_seconds: float) -> Iterator[None]:
    """Tell the program at the other end of `stream` now and then that somebody still waits for it."""
    done = threading.Event()

    def beat() -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone: the reader of its output finds out
            while not done.wait(every_seconds):
                os.write(stream.fileno(), b"\n")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _hand_over(event: dict[str, Any], on_event: OnEvent, where: str) -> None:
    """A device may send anything under the name of a record."""
    try:
        on_event(event)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        name, reason = event.get("event"), f"{type(error).__name__}: {error}"
        text = f"{where}: sent a record '{name}' that is none ({reason}); see what runs there"
        raise DeviceFault("incomplete", text) from error


def _reported(event: dict[str, Any], where: str) -> EdgekdError:
    name, message = event.get("kind", "error"), str(event.get("message", "no message"))
    kind: Kind = "agent"
    if name == "usage":
        return Bug(f"{where}: was called in a way that it does not know: {message}")
    if name == "busy":
        kind = "busy"
    elif name == "ModuleNotFoundError":
        kind = "tool_missing"
        message += "; install it for the Python that runs the agent ('edgekd doctor' says how)"
    elif "No space left on device" in message:
        kind = "disk_full"
    return DeviceFault(kind, f"{where}: {name}: {message}")
