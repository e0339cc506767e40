"""Whether others took a device's cores while a process was timed. A pure reading of the agent's evidence.

The measure is the share of its time that the process waited for a core: of the time in which its threads were ready to
run, the part in which they had none. Work of others beside a free core makes nobody wait, and does no harm; load
averages cannot tell the two apart. Threads of a process can wait for one another, too, where they are more than the
cores; so the waiting counts as contention only where others worked as well, or nobody can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

MAX_WAITED = 0.1  # of the time; docs/measuring.md has the measurement behind it
UNKNOWN = "whether others took its cores is not known: the device does not tell"

Events = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Contention:
    """Of one process, as shares; None is what the device does not tell.

    Attributes:
        waited: of the time in which its threads were ready to run, how much they had no core.
        others: of the time of its cores, what others used.
        stolen: of the time of its cores, what the host of the virtual machine took.
        throttled: of the time, how long a quota stopped it.
        pressure: of the time, how long any thread of the machine waited for a core.
        others_per_ran: processor time of others, over the process's own.
        cores: that it may use.
    """

    waited: float | None = None
    others: float | None = None
    stolen: float | None = None
    throttled: float | None = None
    pressure: float | None = None
    others_per_ran: float | None = None
    cores: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For the record; shares rounded to a tenth of a percent."""
        return {key: round(value, 3) if value is not None else None for key, value in asdict(self).items()}

    def is_busy(self, limit: float) -> bool:
        """Whether others kept it waiting for more than `limit` of the time."""
        if (self.stolen or 0.0) > limit:
            return True
        return self.waited is not None and self.waited > limit and self._others_worked(limit)

    def words(self) -> str:
        """How much it was kept waiting, and by whom."""
        if (self.stolen or 0.0) > (self.waited or 0.0):
            return f"the host of this virtual machine took {self.stolen:.0%} of its time"
        known = []
        if self.others is not None and self.cores:
            known.append(f"others used {self.others * self.cores:.1f} of {self.cores} cores")
        if self.throttled:
            known.append(f"a quota stopped it for {self.throttled:.0%}")
        return f"waited {self.waited or 0:.0%} of the time for a core" + (f"; {', '.join(known)}" if known else "")

    def note(self, limit: float) -> str | None:
        """What a reader should know of a process that was not kept waiting by others."""
        if self.waited is None:
            return UNKNOWN
        if self.waited > limit and not self._others_worked(limit):
            return f"its threads waited {self.waited:.0%} of the time for one another: they are more than the cores"
        return None

    def _others_worked(self, limit: float) -> bool:
        if self.others_per_ran is None:
            return True
        return max(self.others_per_ran, self.throttled or 0.0) > limit


def contention_of(process: Events) -> Contention:
    """From the events of one process; of agents that tell nothing of it, nothing is known."""
    spans = [event for event in process if event.get("event") == "contention"]
    if not spans:
        return Contention()
    names = ("wall_ns", "ran_ns", "waited_ns", "others_ns", "stolen_ns", "throttled_ns", "pressure_ns")
    wall, ran, waited, others, stolen, throttled, pressure = (_sum(spans, name) for name in names)
    cores = spans[0].get("cores")
    capacity = wall * cores if wall and cores else None
    return Contention(
        waited=_share(waited, None if waited is None or ran is None else waited + ran),
        others=_share(others, capacity),
        stolen=_share(stolen, capacity),
        throttled=_share(throttled, wall),
        pressure=_share(pressure, wall),
        others_per_ran=_share(others, ran),
        cores=cores,
    )


def judge(processes: Sequence[Contention], limit: float) -> tuple[list[str], list[str]]:
    """Reason why a measurement is invalid, and notes.

    Args:
        processes: of one measurement.
        limit: share of the time that a process may be kept waiting.
    """
    busy = {number: one for number, one in enumerate(processes, start=1) if one.is_busy(limit)}
    if busy:
        worst = max(busy.values(), key=lambda one: max(one.waited or 0.0, one.stolen or 0.0))
        which = f"process {', '.join(map(str, busy))} of {len(processes)}"
        return [f"the machine was busy: {worst.words()} ({which})"], []
    return [], list(dict.fromkeys(note for one in processes if (note := one.note(limit))))


def _sum(spans: Iterable[Mapping[str, Any]], name: str) -> int | None:
    values = [span.get(name) for span in spans]
    return None if None in values else sum(value for value in values if value is not None)


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None
