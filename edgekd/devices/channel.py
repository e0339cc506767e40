"""A shell on a device, over whatever carries it.

Login shells greet, links break in silence, and exit codes lie: each command announces itself by a random marker, before
which nothing counts, and ends with that marker and its exit code, without which it has not ended. Scripts are constants
of this package; what users name reaches them as quoted arguments alone.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import selectors
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from edgekd.devices import stream
from edgekd.devices.contract import Reply
from edgekd.devices.faults import DeviceFault

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/system/bin:/vendor/bin"
_START = f'PATH={_PATH}${{PATH:+:$PATH}} LC_ALL=C; export PATH LC_ALL; printf "\\n%s\\n" "$1"; '
_SHORT = (_START + "mark=$1; shift; (\n", '\n); printf \'\\n%s %d\\n\' "$mark" "$?"')
_LONG = _START + 'shift; exec "$@"'
_CODE = re.compile(rb"[0-9]{1,3}")
_POLL_SECONDS = 0.5
_CHUNK_BYTES = 1 << 16
_MOST_BYTES = 1 << 26  # of what one command says; pieces of files have a quarter of it


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for what, in seconds.

    Attributes:
        connect: for a connection.
        alive_interval, alive_count: how often a link is probed, and how many probes may go unanswered.
        command: for any sign of progress of a short command.
        transfer: for any progress of a file.
        quiet: between two looks of the device at a file that comes; it is given up when three found it as it was.
        busy: for another run on the device to end, without a word.
        turn: and then, with a message.
        beat: between two signs of life, both ways, while the agent runs.
        host_silence: after which the device stops the agent.
        device_silence: after which the host gives up.
        stall: how long a living agent may say nothing.
    """

    connect: float = 10.0
    alive_interval: int = 2
    alive_count: int = 3
    command: float = 14.0
    transfer: float = 60.0
    quiet: float = 4
    busy: float = 3.0
    turn: float = 0.0
    beat: float = 2.0
    host_silence: float = 10.0
    device_silence: float = 12.0
    stall: float = stream.STALL_SECONDS


class Channel(Protocol):
    """What carries commands to a device: ssh or adb."""

    default_folder: str
    default_python: str | None

    def open(self) -> None:
        """Connect.

        Raises:
            DeviceFault: why it cannot be.
        """
        ...

    def command(self, text: str) -> list[str]:
        """The local program that has the device's shell evaluate `text`."""
        ...

    def why(self, errors: str, code: int) -> DeviceFault | None:
        """What broke, where a command ended without its marker; None: the link holds.

        Args:
            errors, code: standard error and exit code of the local program.
        """
        ...

    def close(self) -> None:
        """Disconnect, whatever happened."""
        ...


class Shell:
    """Runs commands over a channel.

    Args:
        channel: open.
        where: start of every message, e.g. `device pi`.
        timeouts: how long to wait.
    """

    def __init__(self, channel: Channel, where: str, timeouts: Timeouts) -> None:
        self._channel = channel
        self._where = where
        self._timeouts = timeouts

    def __call__(
        self,
        script: str,
        *arguments: str,
        source: IO[bytes] | None = None,
        taken: Callable[[int], None] | None = None,
        patience_s: float | None = None,
        held: bool = False,
    ) -> Reply:
        """Run a script to its end.

        Args:
            script: POSIX shell text, a constant.
            arguments: its `$1`, `$2` ...; none may hold a NUL.
            source: an open file, sent as standard input.
            taken: is told how many of its bytes are gone.
            patience_s: how long it may make no progress (output, or bytes of `source` taken); default: as any command.
            held: its standard input is empty, and stays open until it has ended or this side is gone; what it says on
                standard error is progress, too.

        Raises:
            DeviceFault: the link broke, or no progress was made for too long.
        """
        mark = secrets.token_hex(16)
        text = _quoted(script.join(_SHORT), mark, arguments)
        with tempfile.TemporaryFile() as errors:
            given = subprocess.PIPE if held else source or subprocess.DEVNULL
            with self._started(text, given, errors) as process:
                signs = errors if held else None
                said = self._read(process, source, taken, patience_s or self._timeouts.command, signs)
                code = process.wait()
            err = _content(errors)
        found = _between(said, mark.encode())
        if found is None:
            raise self.broken(err.decode("utf-8", errors="replace"), code)
        return Reply(found[1], found[0], err)

    @contextlib.contextmanager
    def program(self, arguments: Sequence[str], errors: IO[bytes]) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
        """Start a program whose lines are read while it runs; yields its local end, and the mark before its lines.

        Raises:
            DeviceFault: the local program is missing.
        """
        mark = secrets.token_hex(16)
        with self._started(_quoted(_LONG, mark, arguments), subprocess.PIPE, errors) as process:
            yield process, mark.encode()

    def broken(self, errors: str, code: int) -> DeviceFault:
        """Why a command ended before its end; `errors` and `code` as in `Channel.why`."""
        fault = self._channel.why(errors, code)
        if fault is not None:
            return fault
        said = errors.strip().splitlines()
        return DeviceFault(
            "crashed",
            f"{self._where}: its shell ended before the command did{f' ({said[-1][:200]})' if said else ''};"
            " see that its login shell is a POSIX one that can run 'sh -c', then run it again",
        )

    @contextlib.contextmanager
    def _started(self, text: str, source: IO[bytes] | int, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
        command = self._channel.command(text)
        try:
            process = subprocess.Popen(
                command, stdin=source, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise DeviceFault(
                "tool_missing", f"{self._where}: cannot start {command[0]} ({error.strerror}); install it"
            ) from error
        try:
            yield process
        finally:
            stream.stop(process)

    def _read(
        self,
        process: subprocess.Popen[bytes],
        source: IO[bytes] | None,
        taken: Callable[[int], None] | None,
        patience_s: float,
        signs: IO[bytes] | None,
    ) -> bytes:
        """Everything on standard output. The link itself reads `source`, moving its offset, and makes `signs` grow."""
        assert process.stdout is not None
        descriptor, said = process.stdout.fileno(), io.BytesIO()
        before, moved = 0, time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while time.monotonic() - moved <= patience_s:
                if selector.select(min(_POLL_SECONDS, patience_s)):
                    chunk = os.read(descriptor, _CHUNK_BYTES)
                    if not chunk:
                        return said.getvalue()
                    said.write(chunk)
                    moved = time.monotonic()
                    if said.tell() > _MOST_BYTES:
                        raise DeviceFault("crashed", f"{self._where}: says more than any command does; see its shell")
                offset = os.lseek(source.fileno(), 0, os.SEEK_CUR) if source else 0
                offset = os.fstat(signs.fileno()).st_size if signs else offset
                if offset != before:
                    before, moved = offset, time.monotonic()
                    if taken:
                        taken(offset)
        waited = f"no answer for {patience_s:.0f} s"
        raise DeviceFault("silent", f"{self._where}: {waited}; see that it is on, then run it again")


def after(mark: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    """The lines behind the one that is `mark`; a login shell may have said something before."""
    for line in lines:
        if line.strip() == mark:
            break
    yield from lines


def _quoted(script: str, mark: str, arguments: Sequence[str]) -> str:
    for argument in arguments:
        if "\0" in argument:
            raise DeviceFault("incomplete", f"{argument!r}: no name on a device can hold a NUL; rename it")
    return "exec sh -c " + " ".join(shlex.quote(word) for word in (script, "edgekd", mark, *arguments))


def _between(said: bytes, mark: bytes) -> tuple[bytes, int] | None:
    """Output and exit code, or None if the command has not come to its end."""
    _, start, rest = said.partition(b"\n" + mark)
    output, end, code = rest.rpartition(b"\n" + mark + b" ")
    if not start or not end or not _CODE.fullmatch(code.strip()):
        return None
    return output.removeprefix(b"\r").removeprefix(b"\n"), int(code)


def _content(errors: IO[bytes]) -> bytes:
    """The last of it: what a device says in the end tells why."""
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - _MOST_BYTES))
    return errors.read()
