"""One experiment in a process of its own: a crash, a hang or a want of memory there loses that one alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import edgekd
from edgekd.atomic import read_json, write_json
from edgekd.evidence.contract import Setting
from edgekd.files import read_text
from edgekd.training.engines.process import SETTINGS_FOLDER

# Not `-m`, which would let files of the current folder pass for modules.
_PROGRAM = (
    "import sys; sys.path = [entry for entry in sys.path if entry]; from edgekd.evidence.child import main; main()"
)
# What libraries and runtimes keep: nothing from before helps, and nothing stays.
_CACHES = ("EDGEKD_CACHE", SETTINGS_FOLDER, "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_GRACE_S = 10.0  # between SIGTERM and SIGKILL
_LAST_LINES, _LAST_CHARACTERS = 3, 400


@dataclass(frozen=True)
class Ended:
    """What became of it.

    Attributes:
        status: `cut`: its time was up; `failed`: `reason` says why.
        figures, shows: what it had kept.
        device_gone: the device could not be reached.
    """

    status: Literal["done", "failed", "cut"]
    reason: str | None
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)
    shows: list[dict[str, Any]] = field(default_factory=list)
    device_gone: bool = False


def do(kind: str, setting: Setting, arguments: Mapping[str, Any], limit_s: float) -> Ended:
    """Do an experiment, in at most `limit_s` seconds."""
    folder = Path(tempfile.mkdtemp(prefix="edgekd-evidence-"))
    try:
        job = {"kind": kind, "arguments": dict(arguments), "setting": {
            "machine": dict(setting.machine), "device": setting.device, "scale": asdict(setting.scale),
        }}  # fmt: skip
        write_json(folder / "job.json", job)
        started = time.monotonic()
        code = _run(folder, limit_s)
        return _ended(folder, code, time.monotonic() - started, limit_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, limit_s: float) -> int | None:
    """Its exit code; None: it was ended at its limit."""
    package = str(Path(edgekd.__file__).parents[1])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    caches = {name: str(folder / name.lower()) for name in _CACHES}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONFAULTHANDLER": "1", **caches}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it stays: asked first, so that agents on devices are ended in order."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(folder: Path, code: int | None, seconds: float, limit_s: float) -> Ended:
    kept = _read(folder / "figures.json")
    had = (kept.get("figures", {}), kept.get("shows", []))
    end = _read(folder / "end.json")
    if end:
        return Ended(end["status"], end["reason"], seconds, *had, device_gone=end["device_gone"])
    if code is None:
        return Ended("cut", f"its {limit_s:.0f} s were up{_last_said(folder)}", seconds, *had)
    died = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Ended("failed", f"{died}{_last_said(folder)}", seconds, *had)


def _read(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _last_said(folder: Path) -> str:
    lines = [line.strip() for line in read_text(folder / "log").splitlines() if line.strip()]
    said = " / ".join(lines[-_LAST_LINES:])[-_LAST_CHARACTERS:]
    return f" ({said})" if said else ""
