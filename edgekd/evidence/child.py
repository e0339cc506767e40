"""The process of one experiment: reads its job, does it, and says how it ended."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from edgekd.atomic import read_json, write_json
from edgekd.evidence.contract import Setting, Work, kinds
from edgekd.evidence.scale import Scale

_TRACE_FRAMES = 3
_GONE = ("unreachable", "host_key", "auth", "lost")  # of a device: no experiment on it can be done now


def main() -> None:
    """The folder of the job is the only argument."""
    folder = Path(sys.argv[1])
    job = read_json(folder / "job.json")
    given = job["setting"]
    setting = Setting(given["machine"], given["device"], _scale(given["scale"]))
    work_folder = folder / "work"
    work_folder.mkdir()
    work = Work(setting, work_folder, job["arguments"], folder / "figures.json")
    end: dict[str, Any] = {"status": "done", "reason": None, "device_gone": False}
    try:
        kinds()[job["kind"]].run(work)
    except Exception as error:  # whatever stops one experiment: others go on
        traceback.print_exc()
        end = {"status": "failed", "reason": _why(error), "device_gone": _is_gone(error)}
    write_json(folder / "end.json", end)


def _scale(content: dict[str, Any]) -> Scale:
    """From JSON, which has lists where there were tuples."""
    return Scale(**{name: _tuples(value) for name, value in content.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _why(error: Exception) -> str:
    """One line, with the places in the code where it is no error that edgekd raises on purpose."""
    from edgekd.errors import EdgekdError

    if isinstance(error, EdgekdError):
        return "; ".join(error.problems)
    frames = traceback.extract_tb(error.__traceback__)[-_TRACE_FRAMES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]} ({places})"


def _is_gone(error: Exception) -> bool:
    from edgekd.devices.faults import DeviceFault

    return isinstance(error, DeviceFault) and error.kind in _GONE
