"""Trainings to their end beside the study's trials, each written down as it ends: a search that was killed has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from edgekd.atomic import as_written, read_json, sha256_json, write_json
from edgekd.progress import progress
from edgekd.search.distillers.candidates import Candidate, entries_of
from edgekd.search.distillers.trials import Outcome

Wanted: TypeAlias = Sequence[tuple[Candidate, int]]  # candidates, each with its seed
# Trains each, and tells (place, outcome) as it ends.
Train: TypeAlias = Callable[[Wanted, Callable[[int, Outcome], None]], None]

_FILE = "proxy/trained.json"


class Trainings:
    """Asked for a training twice, it trains once."""

    def __init__(self, folder: Path, inputs: Mapping[str, Any], train: Train) -> None:
        """Open what was kept.

        Args:
            folder: of the search.
            inputs: what decides outcomes beside candidate and seed; what was kept for others is dropped.
            train: whoever trains.
        """
        self._path, self._inputs, self._train = folder / _FILE, sha256_json(inputs), train
        self._kept: list[dict[str, Any]] = []
        if self._path.is_file():
            with as_written(self._path):
                content = read_json(self._path)
                self._kept = content["trained"] if content["inputs_sha256"] == self._inputs else []

    def known(self, candidate: Candidate, seed: int) -> Outcome | None:
        """How a training ended, if it has."""
        key = {"distill": entries_of(candidate), "seed": seed}
        found = next((one["outcome"] for one in self._kept if {name: one[name] for name in key} == key), None)
        return Outcome(**found) if found else None

    def keep(self, candidate: Candidate, seed: int, outcome: Outcome) -> None:
        """Write down how a training ended."""
        if self.known(candidate, seed) is None:
            self._kept.append({"distill": entries_of(candidate), "seed": seed, "outcome": asdict(outcome)})
            write_json(self._path, {"inputs_sha256": self._inputs, "trained": self._kept})

    def of(self, wanted: Wanted, title: str) -> list[Outcome]:
        """How trainings end; those that are not known are done.

        Args:
            wanted: each once.
            title: of the progress.
        """
        missing = [pair for pair in wanted if self.known(*pair) is None]
        if missing:
            with progress(title, len(wanted), done=len(wanted) - len(missing)) as advance:

                def ended(place: int, outcome: Outcome) -> None:
                    self.keep(*missing[place], outcome)
                    advance()

                self._train(missing, ended)
        outcomes = [self.known(*pair) for pair in wanted]
        return [outcome for outcome in outcomes if outcome is not None]
