# SPDX-License-Identifier: Apache-2.0
"""Whether others took the cores: evidence alone, as sums over spans of time. The host judges it.

What is known: how long this process's threads were ready to run and had no core, how long the cores worked for others,
how long the host of a virtual machine, or the quota of a container, held them back, and how long anybody waited.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from .files import lines, text

Tasks = Dict[str, Tuple[int, int]]
Sums = Dict[str, Optional[int]]

# Why something can be missing.
WHY = {
    "waited_ns": "no schedstat in procfs, or it counts nothing",
    "others_ns": "no /proc/stat, or it does not count this process",
    "stolen_ns": "no /proc/stat",
    "pressure_ns": "no /proc/pressure/cpu",
    "throttled_ns": "no cpu.stat of a control group with a quota",
}
_USED, _STOLEN = (0, 1, 2, 5, 6), 7  # fields of a core in /proc/stat: user nice system idle iowait irq softirq steal
_ROUNDING_TICKS = 4
_V1_STAT = "sys/fs/cgroup/cpu/cpu.stat"


class Contention:
    """Counts from its making, and from `take` to `take`.

    Args:
        root: of procfs and sysfs.
        cores: that this process may use; default: those of its affinity.
        clock, used: wall clock, and processor time of this process with all threads that it ever had; both in ns.
    """

    def __init__(
        self,
        root: Path = Path("/"),
        cores: Optional[List[int]] = None,
        clock: Callable[[], int] = time.perf_counter_ns,
        used: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._root = root
        self._cores = cores or _allowed()
        self._clock, self._used = clock, used
        self._tick_ns = 10**9 // _ticks_per_second()
        self._tasks: Tasks = {}
        self._sums: Sums = {}
        self.take()

    def take(self) -> Dict[str, Any]:
        """Since the last call, in ns: `wall_ns`, `ran_ns` and the keys of `WHY`, null for what is not known; `cores`.

        A thread that ended meanwhile counts with its run time, not with its waiting.
        """
        before, tasks_before = self._sums, self._tasks
        self._tasks = _tasks(self._root)
        now: Sums = {"wall_ns": self._clock(), "ran_ns": self._used(), **self._machine()}
        self._sums = now
        span = {key: _risen(before.get(key), value) for key, value in now.items()}
        span["waited_ns"] = _waited(tasks_before, self._tasks)
        span["others_ns"] = self._of_others(span.pop("used_ns"), span["ran_ns"])
        return {**span, "cores": len(self._cores) or None}

    def _of_others(self, used: Optional[int], ran: Optional[int]) -> Optional[int]:
        """Work of the cores less this process's; not known where the kernel does not even count this process."""
        if used is None or ran is None or used + _ROUNDING_TICKS * self._tick_ns < ran // 2:
            return None
        return max(used - ran, 0)

    def _machine(self) -> Sums:
        fields = _stat(self._root, self._cores)
        return {
            "used_ns": None if fields is None else self._tick_ns * sum(fields[place] for place in _USED),
            "stolen_ns": None if fields is None else self._tick_ns * fields[_STOLEN],
            "pressure_ns": _pressure_ns(self._root),
            "throttled_ns": _throttled_ns(self._root),
        }


def absent(span: Dict[str, Any]) -> Dict[str, str]:
    """Why what a span does not know is missing."""
    return {key: why for key, why in WHY.items() if span.get(key) is None}


def _risen(before: Optional[int], now: Optional[int]) -> Optional[int]:
    return None if before is None or now is None else max(now - before, 0)


def _waited(before: Tasks, now: Tasks) -> Optional[int]:
    if not any(ran for ran, _ in now.values()):
        return None  # a kernel without these counts shows zeros
    total = 0
    for task, (ran, waited) in now.items():
        ran_before, waited_before = before.get(task, (0, 0))
        total += waited - waited_before if ran >= ran_before else waited  # the number of an ended thread is given anew
    return total


def _tasks(root: Path) -> Tasks:
    """Thread -> (ran, waited for a core) in ns since it began."""
    found: Tasks = {}
    for counts in (root / "proc/self/task").glob("*/schedstat"):
        words = (text(counts) or "").split()
        if len(words) >= 2:
            found[counts.parent.name] = (int(words[0]), int(words[1]))
    return found


def _stat(root: Path, cores: List[int]) -> Optional[List[int]]:
    """Ticks per field since the start, summed over the cores."""
    wanted = {f"cpu{core}" for core in cores}
    rows = [line.split() for line in lines(root / "proc/stat")]
    fields = [[int(word) for word in row[1:]] for row in rows if row and row[0] in wanted]
    if not fields or min(map(len, fields)) <= _STOLEN:
        return None
    return [sum(column) for column in zip(*fields)]


def _pressure_ns(root: Path) -> Optional[int]:
    """How long at least one thread of the machine waited for a core."""
    for line in lines(root / "proc/pressure/cpu"):
        if line.startswith("some ") and "total=" in line:
            return 1000 * int(line.rpartition("total=")[2])
    return None


def _throttled_ns(root: Path) -> Optional[int]:
    """How long the quota of this process's control group stopped it."""
    groups = [line.rpartition("::")[2] for line in lines(root / "proc/self/cgroup") if line.startswith("0::")]
    for path in [*(f"sys/fs/cgroup{group.rstrip('/')}/cpu.stat" for group in groups), _V1_STAT]:
        facts = dict(line.split()[:2] for line in lines(root / path) if len(line.split()) >= 2)
        if "throttled_usec" in facts:
            return 1000 * int(facts["throttled_usec"])
        if "throttled_time" in facts:
            return int(facts["throttled_time"])
    return None


def _allowed() -> List[int]:
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 0))


def _ticks_per_second() -> int:
    try:
        return os.sysconf("SC_CLK_TCK")
    except (ValueError, OSError, AttributeError):
        return 100
