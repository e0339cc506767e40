"""What shortlists have measured, in a file: a second call measures nothing, and another device learns from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd import __version__
from edgekd.atomic import read_json, sha256_json, write_json
from edgekd.errors import InputError
from edgekd.search.facts import FactsStore
from edgekd.search.latency_fit import Point
from edgekd.search.students import Candidate
from edgekd.search.verdicts import Result
from edgekd.stages.context import CODE_VERSIONS

if TYPE_CHECKING:
    from edgekd.search.shortlist import Shortlist

MEASURED = "measured.json"  # in the folder: what every device has measured so far
_DECIDING = ("export", "runs_there", "profile")  # stages whose code decides a result


class Memory:
    """What was measured, in a file: of each candidate on each device the result, and a hash of all that decides it.

    Args:
        path: of the file.
        found: whose candidates are looked up.
    """

    def __init__(self, path: Path, found: Shortlist, facts: FactsStore) -> None:
        self._path, self._found, self._facts = path, found, facts
        with self._reading():
            self._known: dict[str, Any] = read_json(path) if path.is_file() else {}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Around the reading of the file, which others may have cut or edited."""
        try:
            yield
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError(f"{self._path}: is damaged; remove it, what it names is measured again") from None

    def results(self) -> dict[str, Result]:
        """Of this device: what holds still."""
        found = {}
        keys = {one.name: (self._place(one), self._key(one)) for one in self._found.candidates}
        with self._reading():
            for name, (place, key) in keys.items():
                entry = self._known.get(place)
                if entry and entry["key"] == key:
                    found[name] = Result(**{**entry["result"], "notes": tuple(entry["result"]["notes"])})
        return found

    def elsewhere(self) -> dict[str, list[Point]]:
        """Of other devices, by target: whatever was measured there, for predictions."""
        points: dict[str, list[Point]] = {}
        with self._reading():
            for place, entry in self._known.items():
                name, _, device = place.rpartition("@")
                result = entry["result"]
                if device != self._found.device.name and result["status"] == "measured" and result["p90_ms"]:
                    point = Point(device, entry["gflops"], entry["parameters"], result["p90_ms"])
                    points.setdefault(name.rpartition("/")[2], []).append(point)
        return points

    def keep(self, candidate: Candidate, result: Result) -> None:
        """Write down what was measured, at once."""
        self._known[self._place(candidate)] = {
            "key": self._key(candidate), "result": asdict(result),
            "gflops": candidate.facts.gflops, "parameters": candidate.facts.parameters,
        }  # fmt: skip
        write_json(self._path, self._known)

    def _place(self, candidate: Candidate) -> str:
        return f"{candidate.name}@{self._found.device.name}"

    def _key(self, candidate: Candidate) -> str:
        recipe = self._found.bound.recipe
        about: Mapping[str, Any] = {
            "edgekd": __version__, "code": {name: CODE_VERSIONS[name] for name in _DECIDING},
            "model": self._facts.key(candidate.model), "size_px": candidate.size_px, "head": recipe.student.head,
            "target": candidate.target.model_dump(mode="json"), "device": self._found.device.model_dump(mode="json"),
            "protocol": recipe.search.students.protocol,
        }  # fmt: skip
        return sha256_json(dict(about))
