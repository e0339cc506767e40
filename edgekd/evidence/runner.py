"""Does the experiments of a machine, the most valuable first, and keeps its file: written after each one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgekd import __version__
from edgekd.atomic import place_fault
from edgekd.devices import catalog
from edgekd.errors import EnvironmentFault, InputError
from edgekd.evidence import document, machine, process, sources
from edgekd.evidence.contract import LEAST_S, Experiment, Setting, kinds, offered
from edgekd.evidence.document import Document, Entry, Shown
from edgekd.evidence.scale import Scale
from edgekd.progress import say

_LOOK_LIMIT_S = 300.0
_IDENTITY = ("gpus", "machine", "cores", "python", "cuda", "versions")


@dataclass
class Evidence:
    """A file on its way.

    Attributes:
        entries: by experiment, in their order.
    """

    path: Path
    document: Document
    private: tuple[str, ...] = ()
    entries: dict[str, Entry] = field(default_factory=dict)

    def put(self, entry: Entry) -> None:
        """Keep one, in the place of an earlier try."""
        self.entries[entry.experiment] = entry
        self.save()

    def save(self) -> None:
        """Write the file."""
        whole = self.document.model_copy(update={"entries": tuple(self.entries.values())})
        self.document = document.write(self.path, whole, self.private)

    def is_done(self, experiment: Experiment) -> bool:
        """Whether it was done here before, by the code that there is now; without hashes nobody knows that."""
        entry = self.entries.get(experiment.name)
        if entry is None or entry.status != "done" or not entry.sources:
            return False
        tried = (entry.sources, *(one.sources for one in entry.shows))
        return not any(sources.changed(kept) for kept in tried)


def gather(path: Path, device: str, minutes: float, scale: Scale, only: Sequence[str] = ()) -> Document:
    """Do what the machine can do within a time, and write it down.

    Args:
        path: of the file; one that is there goes on.
        device: name or file of the device that artifacts run on.
        only: names, or beginnings of names, of experiments; empty: all.

    Returns:
        what the file holds now.

    Raises:
        InputError: the file is of another version or machine, or was edited; no such experiment or device.
        EnvironmentFault: the device cannot be reached, or went away; what was measured stays.
    """
    deadline = time.monotonic() + 60 * minutes
    if fault := place_fault(path):
        raise InputError(f"--out {path}: {fault}")
    former = document.read(path) if path.exists() else None
    spec = catalog.load(device)  # before anything is begun
    if Path(device).is_file():
        device = str(Path(device).resolve())  # experiments run in other folders
    found = _look(device, scale, min(_LOOK_LIMIT_S, 60 * minutes))
    setting = Setting(found, device, scale)
    evidence = _opened(path, former, setting, _addresses(spec))
    wanted = _chosen(offered(setting), only)
    for experiment in wanted:
        if experiment.lacking:
            evidence.put(_entry(experiment, "lacking", experiment.lacking))
    _do_all(evidence, setting, [one for one in wanted if not one.lacking], deadline)
    return evidence.document


def _do_all(evidence: Evidence, setting: Setting, wanted: Sequence[Experiment], deadline: float) -> None:
    """What was never tried goes before what failed once."""
    open_ones = [one for one in wanted if not evidence.is_done(one)]
    for one in wanted:
        if one not in open_ones:
            say(f"{one.name}: done before, kept")
    failed_before = {name for name, entry in evidence.entries.items() if entry.status in ("failed", "cut")}
    open_ones.sort(key=lambda one: one.name in failed_before)
    for place, experiment in enumerate(open_ones):
        left_s = deadline - time.monotonic()
        if left_s < min(LEAST_S, experiment.limit_s):
            _leave(evidence, open_ones[place:])
            return
        limit_s = min(experiment.limit_s, left_s)
        say(f"{experiment.name}: begins, at most {limit_s:.0f} s ({place + 1} of {len(open_ones)})")
        ended = _judged(experiment, process.do(experiment.kind, setting, experiment.arguments, limit_s))
        evidence.put(_entry_of(experiment, ended))
        why = f": {ended.reason}" if ended.reason else ""
        say(f"{experiment.name}: {ended.status} in {ended.seconds:.0f} s{why}")
        if ended.device_gone:
            _leave(evidence, open_ones[place + 1 :])
            raise EnvironmentFault(f"{ended.reason}; what was measured is in {evidence.path}, the same command goes on")


def _leave(evidence: Evidence, experiments: Iterable[Experiment]) -> None:
    """Name what there was no time for; what an earlier try had measured stays."""
    for one in experiments:
        if one.name not in evidence.entries or evidence.entries[one.name].status in ("left", "lacking"):
            evidence.put(_entry(one, "left", "no time was left; the same command goes on with it"))


def _look(device: str, scale: Scale, limit_s: float) -> dict[str, Any]:
    say("looking at what there is")
    ended = process.do("look", Setting({}, device, scale), {}, limit_s)
    if ended.status != "done":
        raise EnvironmentFault(ended.reason or "this machine could not be looked at")
    return ended.figures


def _opened(path: Path, former: Document | None, setting: Setting, private: tuple[str, ...]) -> Evidence:
    """A new file, or the former one, if it is of this machine."""
    fresh = Document(
        edgekd=__version__, scale=setting.scale.name, machine=machine.title(setting.machine),
        device=setting.machine["device"]["name"], environment=dict(setting.machine),
    )  # fmt: skip
    evidence = Evidence(path, fresh, private)
    if former is None:
        evidence.save()  # whoever cannot write there is told before anything is measured
        return evidence
    if differing := _differences(former, fresh):
        raise InputError(
            f"{path}: was measured elsewhere ({'; '.join(differing)}); choose another --out for this machine"
        )
    evidence.entries = {entry.experiment: entry for entry in former.entries}
    return evidence


def _differences(former: Document, now: Document) -> list[str]:
    pairs = [(name, getattr(former, name), getattr(now, name)) for name in ("machine", "device", "scale")]
    pairs += [(name, former.environment.get(name), now.environment.get(name)) for name in _IDENTITY]
    return [f"{name}: {_short(before)} there, {_short(here)} here" for name, before, here in pairs if before != here]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _addresses(spec: Any) -> tuple[str, ...]:
    """Where the device is, and who is asked there."""
    told = (spec.ssh.host, spec.ssh.user, spec.adb.serial)
    return tuple(str(one) for one in told if one and len(str(one)) > 2)


def _chosen(experiments: list[Experiment], only: Sequence[str]) -> list[Experiment]:
    found = [one for one in experiments if not only or one.name.startswith(tuple(only))]
    if not found:
        known = ", ".join(one.name for one in experiments)
        raise InputError(f"--only {' '.join(only)}: no experiment begins so (there are: {known})")
    return found


def _entry(experiment: Experiment, status: document.Status, reason: str) -> Entry:
    return Entry(
        experiment=experiment.name, title=experiment.title, status=status, reason=reason, limit_s=experiment.limit_s
    )


def _judged(experiment: Experiment, ended: process.Ended) -> process.Ended:
    """It came to its end, but what it found is against the code: failed; what a part of it found is told as well."""
    fault = kinds()[experiment.kind].fault(ended.figures)
    if fault is None:
        return ended
    status: Literal["failed", "cut"] = "failed" if ended.status == "done" else ended.status
    return replace(ended, status=status, reason="; ".join(filter(None, (ended.reason, fault))))


def _entry_of(experiment: Experiment, ended: process.Ended) -> Entry:
    shows = tuple(
        Shown(
            row=one["row"], where=tuple(one["where"]), by={"edgekd": __version__, **one["by"]},
            sources=sources.hashes(one["sources"]),
        )
        for one in ended.shows
    )  # fmt: skip
    return Entry(
        experiment=experiment.name, title=experiment.title, status=ended.status, reason=ended.reason,
        seconds=round(ended.seconds, 1), limit_s=experiment.limit_s, date=time.strftime("%Y-%m-%d", time.gmtime()),
        figures=ended.figures, shows=shows,
        sources=sources.hashes((kinds()[experiment.kind].source, *experiment.sources)),
    )  # fmt: skip
