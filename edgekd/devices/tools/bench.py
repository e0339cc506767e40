"""Where a timing program runs on a device: its files, a folder of its own that goes again, and one run of it."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgekd.atomic import read_json
from edgekd.devices import not_started
from edgekd.devices.channel import Timeouts
from edgekd.devices.contract import Device, Reply
from edgekd.devices.faults import DeviceFault
from edgekd.devices.hashing import present
from edgekd.devices.tools.affinity import fast_cores, taskset
from edgekd.devices.tools.spec import ToolSpec
from edgekd.devices.tools.tegrastats_log import INTERVAL_MS
from edgekd.devices.turn import label, remedy, say_waiting
from edgekd.measure.latency import Protocol

_CLOSED, _BUSY, _NOT_LOADED = 2, 75, 76
_BUSY_SECONDS = Timeouts().busy
_SHORT_S = 30.0
_OLD_MINUTES = 1440

# $1 the device's lock $2 who asks $3 folder $4 log of the power, or nothing $5 how long another run is waited for; then
# the program and its arguments.
# The lock goes with this process group, and is the one of the agent; Android's shell hands no 9 of its own on to flock.
# 126 and 127 are this shell's own words.
_RUN = f"""
lock=$1 label=$2 log=$4 patience=$5
cd "$3" || exit 3
shift 5
exec 9>>"$lock"
if command -v flock >/dev/null; then
  tries=0
  until flock -n 8 8>&9; do
    [ $tries -lt $patience ] || {{ head -c 500 "$lock"; exit {_BUSY}; }}
    tries=$((tries + 1))
    sleep 1
  done
  printf %s "$label" >"$lock"
fi
if [ -n "$log" ] && command -v tegrastats >/dev/null; then
  tegrastats --interval {INTERVAL_MS} >"$log" 2>/dev/null & logger=$!
fi
"$@"
code=$?
[ -z "$logger" ] || kill "$logger"
case $code in 126 | 127) exit {_NOT_LOADED} ;; 124) exit 1 ;; esac
exit $code
"""
_LOOK = f"""
case $1 in
  */*) [ -f "$1" ] || exit 1; [ -x "$1" ] || exit {_CLOSED} ;;
  *) command -v "$1" >/dev/null || exit 1 ;;
esac
head -c 20 "$(command -v "$1")" 2>/dev/null | od -An -tx1 2>/dev/null
exit 0
"""
_MAKE = f"""
mkdir -p "$1/tools" "$1/engines" && cd "$1/tools" || exit 3
find . -maxdepth 1 -name 'run-*' -mmin +{_OLD_MINUTES} -exec rm -rf {{}} + 2>/dev/null
mkdir "$2"
"""


class Said(NamedTuple):
    """What a program said on both streams, the log of the power beside it, and its exit code, which proves nothing."""

    text: str
    log: str
    code: int


@dataclass(frozen=True)
class Bench:
    """One artifact before one timing program.

    Attributes:
        device: connected.
        name: of the program, for messages.
        program: its path there.
        libraries: folder of its libraries; None: the system's.
        tool: of the device's file.
        sidecar: of the artifact.
        model: its file there.
        model_sha256: of that file.
        folder: to work in.
        root: what edgekd keeps on the device.
        threads: of the inference.
        label: who measures.
        words_before: keep a program on the fast cores.
        rules: of the measurement.
        found: what was found out on the way, for the record.
    """

    device: Device
    name: str
    program: str
    libraries: str | None
    tool: ToolSpec
    sidecar: Mapping[str, Any]
    model: PurePosixPath
    model_sha256: str
    folder: PurePosixPath
    root: PurePosixPath
    threads: int
    label: str
    words_before: tuple[str, ...]
    rules: Protocol
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def size_px(self) -> tuple[int, int]:
        """[H, W] that the artifact is measured at."""
        height, width = self.sidecar["size_px"]
        return height, width

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W) to time: one image where the batch is dynamic."""
        batch, channels, height, width = self.sidecar["input_shape"]
        return batch or 1, channels, height or self.size_px[0], width or self.size_px[1]

    @property
    def limit_s(self) -> float:
        """How long a timing run may take: inferences may be slow, and the least count holds as well."""
        return 300.0 + 5.0 * (self.rules.warmup_seconds + self.rules.min_seconds)

    def run(self, arguments: Sequence[str], limit_s: float, *, pinned: bool = False, power: bool = False) -> Said:
        """Run the program in the folder.

        Args:
            arguments: its first word is the program.
            limit_s: it is ended then.
            pinned: on the fast cores.
            power: with tegrastats beside it, where there is one.

        Raises:
            DeviceFault: it is missing, cannot be started, or took too long; the device is busy; the link broke.
        """
        return _run(self, arguments, limit_s, pinned=pinned, power=power)

    def read(self, path: PurePosixPath) -> str:
        """The text of a file that a program left; empty if there is none."""
        with tempfile.TemporaryDirectory(prefix="edgekd-") as name:
            target = Path(name) / "file"
            try:
                self.device.pull(str(path), target)
            except DeviceFault as fault:
                if fault.kind == "incomplete" and "no such file" in fault.problems[0]:
                    return ""
                raise
            return target.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def bench(
    device: Device, artifact: Path, name: str, program: str, tool: ToolSpec, rules: Protocol, policies: Any
) -> Iterator[Bench]:
    """Bring everything there; the folder goes when the context ends.

    Args:
        artifact: folder with the model and its sidecar.
        name, program: of the timing program, and where it is by default.
        policies: clocks of the cores, as `state` tells them.

    Raises:
        DeviceFault: no room, no link.
    """
    sidecar, facts = read_json(artifact / "edgekd.json"), device.facts()
    model = next(iter(sidecar["files"]))
    root = PurePosixPath(facts["folder"])
    folder = root / "tools" / f"run-{secrets.token_hex(8)}"
    threads = device.spec.threads or facts["cores"] or 1
    there = PurePosixPath(device.push(artifact))
    path, libraries = brought(device, name, program, tool)
    check_program(device, name, path)
    made = device.shell(["sh", "-c", _MAKE, "edgekd", str(root), folder.name], timeout_s=_SHORT_S)
    if made.code != 0:
        said = " ".join(made.err.decode("utf-8", errors="replace").split())[-200:]
        raise DeviceFault("denied", f"device {device.spec.name}: {folder}: cannot be made ({said}); set `folder`")
    try:
        yield Bench(
            device=device, name=name, program=path, libraries=libraries, tool=tool, sidecar=sidecar,
            model=there / model, model_sha256=sidecar["files"][model], folder=folder, root=root, threads=threads,
            label=label(), words_before=_pinning(policies, threads, facts["cores"]), rules=rules,
        )  # fmt: skip
    finally:
        with contextlib.suppress(DeviceFault):  # of a broken link, told already; the next run clears old folders away
            device.shell(["rm", "-rf", str(folder)], timeout_s=_SHORT_S)


def brought(device: Device, name: str, program: str, tool: ToolSpec) -> tuple[str, str | None]:
    """(path of the program on the device, folder of its libraries or None), after it was brought there if need be.

    Raises:
        DeviceFault: the local file is not there, or what is pushed is a folder without the program.
    """
    if tool.push is None:
        return tool.program or program, None
    if not tool.push.exists():
        raise DeviceFault(
            "tool_missing",
            f"device {device.spec.name}: tools: push: {tool.push}: no such file on this machine; put {name} there,"
            " built for the device",
        )
    source = present(tool.push)
    there = PurePosixPath(device.push(source))
    if source.is_dir():
        if not (source / name).is_file():
            raise DeviceFault("tool_missing", f"device {device.spec.name}: {source}: has no {name}; put it there")
        there = there / name
    if not there.is_relative_to(source if source.is_dir() else source.parent):  # never change a file of the user
        device.shell(["chmod", "755", str(there)], timeout_s=_SHORT_S)
    return str(there), str(there.parent)


def _run(bench: Bench, arguments: Sequence[str], limit_s: float, *, pinned: bool, power: bool) -> Said:
    log = bench.folder / "power.log" if power else None
    words = [*(bench.words_before if pinned else ()), *arguments]
    if bench.libraries:
        words = ["env", f"LD_LIBRARY_PATH={bench.libraries}", *words]
    where = f"device {bench.device.spec.name}: {bench.name}"
    lock = bench.device.facts().get("lock", str(bench.root / "lock"))

    def once(patience_s: float) -> Reply:
        given = (lock, bench.label, str(bench.folder), str(log or ""), f"{patience_s:.0f}")
        return _limited(bench, ["sh", "-c", _RUN, "edgekd", *given, *words], limit_s, patience_s, where)

    reply, turn_s = once(_BUSY_SECONDS), bench.device.turn_seconds
    if reply.code == _BUSY and turn_s > 0:
        say_waiting(f"{where}: in use by {_text(reply).strip() or 'another run'}", turn_s)
        reply = once(turn_s)
    text = _text(reply)
    if reply.code == _BUSY:
        raise DeviceFault("busy", f"{where}: in use by {text.strip() or 'another run'}; {remedy(turn_s)}")
    if reply.code == _NOT_LOADED:
        reason = not_started.why(text, bench.device.facts()["machine"])
        raise DeviceFault("tool_missing", f"{where}: {bench.program} does not start there: {reason}")
    return Said(text, bench.read(log) if log else "", reply.code)


def _limited(bench: Bench, command: list[str], limit_s: float, patience_s: float, where: str) -> Reply:
    """Run a command that may first wait for its turn."""
    try:
        return bench.device.shell(command, timeout_s=patience_s + limit_s)
    except DeviceFault as fault:
        if fault.kind == "silent" and "did not end" in fault.problems[0]:
            raise DeviceFault(
                "silent", f"{where}: did not end in {limit_s:.0f} s and was stopped; see that nothing else runs there"
            ) from fault
        raise


def _text(reply: Reply) -> str:
    return b"\n".join((reply.out, reply.err)).decode("utf-8", errors="replace")


def check_program(device: Device, name: str, program: str) -> None:
    """See that a program is there, may be started, and is one of the device's processor.

    Raises:
        DeviceFault: it is not.
    """
    where = f"device {device.spec.name}: {name}"
    reply, machine = device.shell(["sh", "-c", _LOOK, "edgekd", program], timeout_s=_SHORT_S), device.facts()["machine"]
    if reply.code == _CLOSED:
        reason = not_started.why("Permission denied", machine)
        raise DeviceFault("tool_missing", f"{where}: {program}: is not executable: {reason}; or name it in `push`")
    if reply.code != 0:
        raise DeviceFault(
            "tool_missing",
            f"{where}: {program}: is not there; install it, or name in `tools` where it is (program, push)",
        )
    built_for = not_started.other_machine(_bytes_of(reply.text), machine)
    if built_for:
        raise DeviceFault(
            "tool_missing",
            f"{where}: {program}: was built for {built_for}, the device is {machine}; take one that was built for it",
        )


def _bytes_of(dump: str) -> bytes:
    """What `od -An -tx1` shows; nothing where it is not that."""
    with contextlib.suppress(ValueError):
        return bytes.fromhex("".join(dump.split()))
    return b""


def _pinning(policies: Mapping[str, tuple[str, int]] | None, threads: int, cores: int | None) -> tuple[str, ...]:
    """Nothing where the cores are alike, or all are needed."""
    chosen = fast_cores({name: (own, khz) for name, (own, khz) in (policies or {}).items()}, threads)
    return tuple(taskset(chosen)) if chosen and cores and len(chosen) < cores else ()
