"""The machine that edgekd runs on. It runs the very same agent as every other device."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from edgekd.agent.protocol import IncompleteError, Reader
from edgekd.devices import agent_archive
from edgekd.devices.contract import DeviceSpec
from edgekd.errors import EnvironmentFault

OnEvent = Callable[[dict[str, Any]], None]

_STALL_SECONDS = 180.0
_CHUNK_BYTES = 1 << 16


class LocalDevice:
    """Runs the agent as a process group of its own.

    Args:
        spec: of the device.
        stall_seconds: how long the agent may say nothing before it is stopped.
        python: the interpreter that runs the agent.
    """

    def __init__(self, spec: DeviceSpec, stall_seconds: float = _STALL_SECONDS, python: str = sys.executable) -> None:
        self.spec = spec
        self._stall_seconds = stall_seconds
        self._python = python
        self._folder = Path(tempfile.mkdtemp(prefix="edgekd-agent-"))
        self._agent = agent_archive.build(self._folder)

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def push(self, source: Path) -> str:
        """The absolute path: what is here needs no transport, and the agent checks an artifact's hashes itself.

        Raises:
            EnvironmentFault: there is nothing at `source`.
        """
        if not source.exists():
            raise EnvironmentFault(f"{source}: is not there any more; do the stage that makes it again")
        return str(source.resolve())

    def run(self, arguments: Sequence[str], on_event: OnEvent) -> None:
        """Run the agent; hands over each event as it comes, the end record last.

        Raises:
            EnvironmentFault: the agent could not be started, reported an error, fell silent, died, or its output is
                not whole.
        """
        where = f"device {self.spec.name}: agent {arguments[0] if arguments else ''}".strip()
        with tempfile.TemporaryFile() as errors:
            with self._started(arguments, errors, where) as process:
                reader = Reader()
                try:
                    for line in _lines(process, self._stall_seconds, where):
                        _hand_over(reader.feed(line), on_event, where)
                except IncompleteError as error:
                    raise EnvironmentFault(
                        f"{where}: output is damaged: {error}{_tail(errors)}; run it again"
                    ) from error
                if reader.complete:
                    return
                process.wait()
            code = process.returncode
            died = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise EnvironmentFault(f"{where}: ended before its output was whole ({died}{_tail(errors)}); run it again")

    def close(self) -> None:
        """Remove the agent's folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _started(self, arguments: Sequence[str], errors: IO[bytes], where: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [self._python, str(self._agent), *arguments]
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise EnvironmentFault(f"{where}: cannot start {self._python} ({error.strerror})") from error
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the agent and whatever it started, however this run ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()


def _lines(process: subprocess.Popen[bytes], stall_seconds: float, where: str) -> Iterator[bytes]:
    """Whole lines as they come; what a dying agent leaves of a line is no line.

    Raises:
        EnvironmentFault: nothing came for `stall_seconds`.
    """
    assert process.stdout is not None
    descriptor, rest = process.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if not selector.select(stall_seconds):
                raise EnvironmentFault(f"{where}: said nothing for {stall_seconds:.0f} s and was stopped; run it again")
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                break
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line + b"\n"


def _hand_over(event: dict[str, Any], on_event: OnEvent, where: str) -> None:
    if event["event"] == "error":
        raise EnvironmentFault(f"{where}: {event.get('kind', 'error')}: {event.get('message', 'no message')}")
    on_event(event)


def _tail(errors: IO[bytes]) -> str:
    """The last line of the agent's standard error, as an addition to a message."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", errors="replace").strip().splitlines()
    return f"; it said: {lines[-1][:200]}" if lines else ""
