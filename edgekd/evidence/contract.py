"""What an experiment is: offered for a machine, done in a process of its own, and what it may show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from edgekd.atomic import write_json
from edgekd.evidence.scale import Scale

LEAST_S = 20.0  # with less time left, nothing is begun


@dataclass(frozen=True)
class Setting:
    """What experiments are chosen for.

    Attributes:
        machine: what `machine.look` has found.
        device: name or file of the device that artifacts run on; `local` is this machine.
    """

    machine: Mapping[str, Any]
    device: str
    scale: Scale

    @property
    def here(self) -> bool:
        """Whether the device is this machine, so that trainings tell something of it."""
        return bool(self.machine["device"]["transport"] == "local")

    def lacks_gpus(self, count: int = 1) -> str | None:
        """Why nothing that trains on so many GPUs can be done; None if it can, or is done on a CPU."""
        there = len(self.machine["gpus"])
        if not self.here:
            return "is for the machine that edgekd runs on; the device is another"
        if self.scale.device == "cpu" or there >= count:
            return None
        return "no GPU that torch sees" if not there else f"needs {count} GPUs; torch sees {there}"


@dataclass(frozen=True)
class Experiment:
    """One, for one machine.

    Attributes:
        name: unique among those of a machine.
        title: for people.
        kind: whose `run` does it.
        value: the lower, the earlier it is done.
        limit_s: after which it is ended; what it had kept stays.
        arguments: for `run`.
        lacking: why this machine cannot do it; None if it can.
        sources: files whose code it tries, as in `Work.shows`; those of its kind are among them by themselves.
    """

    name: str
    title: str
    kind: str
    value: int
    limit_s: float
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lacking: str | None = None
    sources: tuple[str, ...] = ()


class Work:
    """What an experiment has while it runs, in its own process.

    Args:
        folder: of its own, empty at the beginning and removed afterwards.
        arguments: the experiment's.
        figures: the file that holds what was measured so far.
    """

    def __init__(self, setting: Setting, folder: Path, arguments: Mapping[str, Any], figures: Path) -> None:
        self.setting, self.scale, self.folder, self.arguments = setting, setting.scale, folder, arguments
        self._file = figures
        self._figures: dict[str, Any] = {}
        self._shown: list[dict[str, Any]] = []

    @property
    def figures(self) -> Mapping[str, Any]:
        """What was kept so far."""
        return self._figures

    def keep(self, **figures: Any) -> None:
        """Add figures to those that stay, whatever becomes of this process."""
        self._figures |= figures
        self._write()

    def shows(
        self, row: str, where: Iterable[str], sources: Iterable[str], by: Mapping[str, str] | None = None
    ) -> None:
        """Something was executed here.

        Args:
            row: what, e.g. `target onnx-fp32`.
            where: words of the place, e.g. `linux`, `aarch64`, `CPU`.
            sources: files whose code that was: patterns below the package, or `export/NAME.yaml`.
            by: versions of what executed it, beside edgekd's.
        """
        self._shown.append({
            "row": row, "where": list(where), "sources": sorted(set(sources)), "by": dict(by or {}),
        })  # fmt: skip
        self._write()

    def _write(self) -> None:
        write_json(self._file, {"figures": self._figures, "shows": self._shown})


Fault: TypeAlias = Callable[[Mapping[str, Any]], str | None]


def faultless(_figures: Mapping[str, Any]) -> None:
    """Of kinds whose figures are good whatever they are."""


@dataclass(frozen=True)
class Kind:
    """An entry of the registry.

    Attributes:
        offers: the experiments of this kind for a machine, those that it cannot do included.
        run: does one; raises what it likes.
        fault: what speaks against the code that was tried, in one line, from the figures, of a part of them, too; None
            if nothing does. Without a fault it is done, whatever the figures are.
    """

    name: str
    offers: Callable[[Setting], Iterable[Experiment]]
    run: Callable[[Work], None]
    fault: Fault

    @property
    def source(self) -> str:
        """The file that does it, below the package."""
        return self.run.__module__.removeprefix("edgekd.").replace(".", "/") + ".py"


_REGISTRY: dict[str, Kind] = {}


def register(
    name: str,
    offers: Callable[[Setting], Iterable[Experiment]],
    run: Callable[[Work], None],
    fault: Fault = faultless,
) -> None:
    """Make a kind known, see `Kind`. A second one under one name raises."""
    if name in _REGISTRY:
        raise ValueError(f"experiment kind '{name}' is registered twice")
    _REGISTRY[name] = Kind(name, offers, run, fault)


def kinds() -> dict[str, Kind]:
    """All that there are."""
    import edgekd.evidence.experiments.all  # noqa: F401  (registers every kind)

    return dict(_REGISTRY)


def offered(setting: Setting) -> list[Experiment]:
    """What there is to do on a machine, the most valuable first, those behind that it cannot do."""
    found = [one for kind in kinds().values() for one in kind.offers(setting)]
    names = [one.name for one in found]
    assert len(set(names)) == len(names), f"two experiments of one name: {sorted(names)}"
    return sorted(found, key=lambda one: (one.lacking is not None, one.value, one.name))
