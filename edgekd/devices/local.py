"""The machine that edgekd runs on. It runs the very same agent as every other device."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from edgekd.atomic import atomic_path
from edgekd.devices import agent_archive, not_started, stream
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import DeviceSpec, Reply
from edgekd.devices.faults import DeviceFault
from edgekd.devices.hashing import present
from edgekd.devices.stream import STALL_SECONDS, OnEvent
from edgekd.devices.turn import TIMED, lock, own_turn
from edgekd.openmp import without_bounds

_BUSY_SECONDS = Timeouts().busy


class LocalDevice:
    """Runs the agent as a process group of its own.

    Args:
        spec: of the device.
        stall_seconds: how long the agent may say nothing before it is stopped.
        python: the interpreter that runs the agent; default: the device's, else the one that runs edgekd.
        turn_seconds: how long to wait for another run that measures here.
    """

    def __init__(
        self,
        spec: DeviceSpec,
        stall_seconds: float = STALL_SECONDS,
        python: str | None = None,
        turn_seconds: float = 0.0,
    ) -> None:
        self.spec = spec
        self.turn_seconds = turn_seconds
        self._stall_seconds = stall_seconds
        self._python = python or spec.python or sys.executable
        self._folder = Path(tempfile.mkdtemp(prefix="edgekd-agent-"))
        self._agent = agent_archive.build(self._folder)

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def facts(self) -> dict[str, Any]:
        """System, machine, cores that this process may use, free space for temporary files."""
        affinity = getattr(os, "sched_getaffinity", None)
        return {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "cores": len(affinity(0)) if affinity else os.cpu_count(),
            "folder": str(self._folder),
            "lock": str(lock()),
            "free_bytes": shutil.disk_usage(self._folder).free,
            "python": platform.python_version() if self._python == sys.executable else None,
        }

    def push(self, source: Path) -> str:
        """The absolute path: what is here needs no transport, and the agent checks an artifact's hashes itself.

        Raises:
            DeviceFault: there is nothing at `source`.
        """
        return str(present(source))

    def run(self, arguments: Sequence[str], on_event: OnEvent) -> None:
        """Run the agent; hands over each event as it comes, the end record last.

        Raises:
            DeviceFault: somebody else measures here, or the agent could not be started, reported an error, fell
                silent, died, or its output is not whole.
        """
        command = arguments[0] if arguments else ""
        where = f"device {self.spec.name}: agent {command}".strip()
        alone: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if command in TIMED:
            alone = own_turn(where, _BUSY_SECONDS, self.turn_seconds)
        with alone, tempfile.TemporaryFile() as errors:
            with self._started(arguments, errors, where) as process:
                said = stream.lines(process, where, self._stall_seconds)
                if stream.follow(said, on_event, where, errors):
                    return
                process.wait()
            code = process.returncode
            died = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise DeviceFault(
                "crashed", f"{where}: ended before its output was whole ({died}{stream.tail(errors)}); run it again"
            )

    def shell(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Reply:
        """Run a program; whatever ends the call ends it, and what it started.

        Raises:
            DeviceFault: there is none of that name, or it takes too long.
        """
        where = f"device {self.spec.name}: {arguments[0]}"
        with tempfile.TemporaryFile() as errors:
            process = _start(arguments, errors, f"{where}: cannot be started")
            try:
                said, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                raise DeviceFault("silent", f"{where}: did not end in {timeout_s:.0f} s; run it again") from error
            finally:
                stream.stop(process)
            errors.seek(0)
            return Reply(process.returncode, said, errors.read())

    def pull(self, remote: str, target: Path) -> None:
        """Copy a file.

        Raises:
            DeviceFault: there is none.
        """
        if not Path(remote).is_file():
            raise DeviceFault("incomplete", f"device {self.spec.name}: {remote}: no such file; nothing to fetch")
        with atomic_path(target) as temporary:
            shutil.copyfile(remote, temporary)

    def close(self) -> None:
        """Remove the agent's folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _started(self, arguments: Sequence[str], errors: IO[bytes], where: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [self._python, str(self._agent), *arguments]
        process = _start(command, errors, f"{where}: cannot start {self._python}")
        try:
            yield process
        finally:
            stream.stop(process)


def _start(command: Sequence[str], errors: IO[bytes], failure: str) -> subprocess.Popen[bytes]:
    """A process in a session of its own, whose OpenMP waits as a user's would.

    Args:
        failure: start of the message where it cannot be started; the reason follows.
    """
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            env=without_bounds(),
        )
    except OSError as error:
        reason = not_started.why(error.strerror or str(error), platform.machine())
        raise DeviceFault("tool_missing", f"{failure}: {reason}") from error
