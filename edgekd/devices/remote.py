"""A device behind a channel: the agent runs there under a supervisor that ends it when this side is gone."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from edgekd.devices import agent_archive, not_started, stream
from edgekd.devices.channel import Channel, Shell, Timeouts, after
from edgekd.devices.contract import DeviceSpec, Reply
from edgekd.devices.faults import DeviceFault
from edgekd.devices.numbers import whole
from edgekd.devices.store import Store, free_bytes, refused
from edgekd.devices.stream import OnEvent
from edgekd.devices.turn import label, say_waiting
from edgekd.plain import cut

_OLDEST_PYTHON = (3, 8)
_FACTS = 8  # lines of `_HELLO`
_ENDING_SECONDS = 3.0
_NOT_STARTED, _TIMED_OUT, _LATE = (126, 127), 124, 5

# $1 folder, absolute or below the home folder; $2 interpreter, or nothing. The folder comes last: it may hold newlines.
_HELLO = """
case $1 in /*) folder=$1 ;; "~/"*) folder=$HOME/${1#"~/"} ;; *) folder=$HOME/$1 ;; esac
case $2 in "~/"*) python=$HOME/${2#"~/"} ;; *) python=$2 ;; esac
mkdir -p "$folder/store" && cd "$folder" || exit 3
find store -maxdepth 1 -name '.new-*' -mmin +60 -exec rm -rf {} + 2>/dev/null
uname -s; uname -r; uname -m
nproc 2>/dev/null || getconf _NPROCESSORS_ONLN
df -Pk . | tail -n 1
if [ -n "$python" ]; then
  "$python" -c 'import sys; print("%d.%d.%d" % tuple(sys.version_info[:3]))' 2>/dev/null ||
    printf 'none %s\\n' "$("$python" -c '' 2>&1 | tail -n 1 | cut -c 1-200)"
else
  echo none
fi
echo "$python"
pwd -P
"""
_VERSION = re.compile(r"[0-9]{1,4}(\.[0-9]{1,4}){2}")

# $1 seconds, $2 seconds between two signs of life (on standard error), then a program and its arguments. It leads a
# group of its own, which ends with it, with the time, or with this end of the link, whose standard input stays open.
# Time is that since the start of the device: boards without a battery are set right by the network while they run.
_PROGRAM = f"""
limit=$1 beat=$2; shift 2
exec 3<&0
if command -v setsid >/dev/null; then setsid "$@" </dev/null 3<&- & else "$@" </dev/null 3<&- & fi
program=$!
now() {{
  if read -r up _ 2>/dev/null </proc/uptime; then echo "${{up%%.*}}"; else date +%s; fi
}}
end() {{ kill -9 "-$program" 2>/dev/null || kill -9 "$program" 2>/dev/null; }}
(
  read -r _ <&3
  end
) >/dev/null 2>&1 & link=$!
(
  exec 3<&-
  trap 'kill $nap 2>/dev/null; exit 0' TERM
  last=$(($(now) + limit))
  while [ "$(now)" -lt "$last" ]; do
    sleep "$beat" & nap=$!
    wait $nap
    echo >&2 || break
  done
  trap '' TERM
  end
  exit {_LATE}
) >/dev/null & clock=$!
exec 3<&-
{{ wait $program; code=$?; end; kill $link; kill $clock; wait $link; wait $clock; }} 2>/dev/null
[ $? -ne {_LATE} ] || code={_TIMED_OUT}
(exit $code)
"""


class RemoteDevice:
    """Connects when it is made.

    Args:
        spec: of the device.
        channel: what carries commands there.
        timeouts: how long to wait.

    Raises:
        DeviceFault: it cannot be reached, or its folder not be written.
    """

    def __init__(self, spec: DeviceSpec, channel: Channel, timeouts: Timeouts | None = None) -> None:
        self.spec = spec
        self._where = f"device {spec.name}"
        self._timeouts = timeouts or Timeouts()
        self.turn_seconds = self._timeouts.turn
        self._channel = channel
        default = "" if spec.tools else channel.default_python  # with tools alone, none is ever started
        self._python = spec.python or default or ""
        self._shell = Shell(channel, self._where, self._timeouts)
        channel.open()
        try:
            self._facts = self._hello()
            self._store = Store(self._shell, self._facts["folder"], self._where, self._timeouts)
        except BaseException:
            channel.close()
            raise

    def __enter__(self) -> RemoteDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def facts(self) -> dict[str, Any]:
        """System, machine, the folder and its free space, Python's version."""
        return dict(self._facts)

    def push(self, source: Path) -> str:
        """Bring a file or folder there unless its content is there; returns its path.

        Raises:
            DeviceFault: no room, no link, or it did not arrive as it was sent.
        """
        return self._store.push(source)

    def pull(self, remote: str, target: Path) -> None:
        """Fetch a file; what an earlier call left unfinished goes on.

        Raises:
            DeviceFault: there is none, or the link broke.
        """
        self._store.pull(remote, target)

    def shell(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Reply:
        """Run a program; each argument reaches it as it is. Whatever ends the call ends it, and what it started.

        Raises:
            DeviceFault: the link broke, or it takes too long.
        """
        limits = (str(max(1, round(timeout_s))), f"{self._timeouts.beat:g}")
        reply = self._shell(_PROGRAM, *limits, *arguments, held=True, patience_s=self._timeouts.device_silence)
        if reply.code in _NOT_STARTED:
            reason = not_started.why(reply.err.decode("utf-8", errors="replace"), self._facts["machine"])
            raise DeviceFault("tool_missing", f"{self._where}: {arguments[0]}: cannot be started: {reason}")
        if reply.code == _TIMED_OUT:
            raise DeviceFault(
                "silent", f"{self._where}: {arguments[0]}: did not end in {timeout_s:.0f} s; run it again"
            )
        return reply

    def run(self, arguments: Sequence[str], on_event: OnEvent) -> None:
        """Run the agent; hands over each event as it comes, the end record last.

        Raises:
            DeviceFault: no usable Python, busy, the link broke, or the agent reported an error, fell silent, died, or
                its output is not whole.
        """
        where = f"{self._where}: agent {arguments[0] if arguments else ''}".strip()
        try:
            self._run(arguments, on_event, where, self._timeouts.busy)
        except DeviceFault as fault:
            if fault.kind != "busy" or self.turn_seconds <= 0:
                raise
            say_waiting(fault.problems[0].partition(";")[0], self.turn_seconds)
            self._run(arguments, on_event, where, self.turn_seconds)

    def _run(self, arguments: Sequence[str], on_event: OnEvent, where: str, wait_s: float) -> None:
        """Run the agent once it is its turn; nothing is handed over before."""
        command = self._command(arguments, wait_s)
        with tempfile.TemporaryFile() as errors, self._shell.program(command, errors) as (process, mark):
            assert process.stdin is not None
            with stream.heartbeat(process.stdin, self._timeouts.beat):
                said = stream.lines(
                    process, where, wait_s + self._timeouts.stall, signs=errors, silence_s=self._timeouts.device_silence
                )
                if stream.follow(after(mark, said), on_event, where, errors):
                    _let_end(process)
                    return
                _let_end(process)
            raise self._ended_early(where, process, errors)

    def close(self) -> None:
        """Disconnect; what still runs there is ended."""
        self._channel.close()

    def _hello(self) -> dict[str, Any]:
        folder = self.spec.folder or self._channel.default_folder
        reply = self._shell(_HELLO, folder, self._python)
        if reply.code != 0:
            raise refused(self._where, f"folder {folder} cannot be made", reply.err)
        lines = reply.text.split("\n", 7)
        if len(lines) != _FACTS:
            said = cut(" ".join(reply.text.split()))
            raise DeviceFault("crashed", f"{self._where}: does not say what it is (it said: {said}); see its shell")
        system, release, machine, cores, free, version, self._python, path = lines
        version, _, self._no_python = version.strip().partition(" ")
        if version != "none" and not _VERSION.fullmatch(version):
            version, self._no_python = "none", f"tells no version ({cut(version)})"
        return {
            "system": system,
            "release": release,
            "machine": machine,
            "cores": whole(cores),
            "free_bytes": free_bytes(free),
            "folder": path,
            "python": None if version == "none" else version,
        }

    def _command(self, arguments: Sequence[str], wait_s: float) -> list[str]:
        """The agent under its supervisor."""
        python = self._usable_python()
        options = {
            "--line": json.dumps(list(arguments)),
            "--lock": f"{self._facts['folder']}/lock",
            "--label": label(),
            "--wait-seconds": str(wait_s),
            "--silence-seconds": str(self._timeouts.host_silence),
            "--beat-seconds": str(self._timeouts.beat),
        }
        return [python, self._push_agent(), "supervise", *(word for pair in options.items() for word in pair)]

    def _usable_python(self) -> str:
        found = self._facts["python"]
        if not self._python:
            raise DeviceFault(
                "python",
                f"{self._where}: has no Python for the agent; name a program in `tools` that times its artifacts"
                " (benchmark_model, onnxruntime_perf_test, benchncnn), or install Python there (e.g. Termux) and set"
                " `python` to its path",
            )
        if found is None:
            reason = not_started.why(self._no_python, self._facts["machine"])
            raise DeviceFault(
                "python",
                f"{self._where}: {self._python} does not run there: {reason}; or set `python` to another, 3.8 or newer",
            )
        if tuple(map(int, found.split(".")[:2])) < _OLDEST_PYTHON:
            raise DeviceFault(
                "python",
                f"{self._where}: {self._python} is Python {found}, the agent takes 3.8 or newer; set `python` to one"
                " that is, or use trtexec alone: leave `python` out and name it in `tools`",
            )
        return self._python

    def _push_agent(self) -> str:
        with tempfile.TemporaryDirectory(prefix="edgekd-agent-") as folder:
            return self._store.push(agent_archive.build(Path(folder)))

    def _ended_early(self, where: str, process: subprocess.Popen[bytes], errors: IO[bytes]) -> DeviceFault:
        errors.seek(0)
        fault = self._shell.broken(errors.read().decode("utf-8", errors="replace"), process.returncode or 0)
        if fault.kind != "crashed":
            return fault
        ended = f"exit code {process.returncode}{stream.tail(errors)}"
        return DeviceFault("crashed", f"{where}: ended before its output was whole ({ended}); run it again")


def _let_end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_ENDING_SECONDS)
