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
        self._kept: list[tuple[list[dict[str, Any]], int, Outcome]] = []
        if self._path.is_file():
            with as_written(self._path):
                content = read_json(self._path)
                if content["inputs_sha256"] == self._inputs:
                    self._kept = [
                        (one["distill"], one["seed"], Outcome(**one["outcome"])) for one in content["trained"]
                    ]

    def known(self, candidate: Candidate, seed: int) -> Outcome | None:
        """How a training ended, if it has."""
        key = (entries_of(candidate), seed)
        return next((outcome for *this, outcome in self._kept if tuple(this) == key), None)

    def keep(self, candidate: Candidate, seed: int, outcome: Outcome) -> None:
        """Write down how a training ended."""
        if self.known(candidate, seed) is None:
            self._kept.append((entries_of(candidate), seed, outcome))
            rows = [{"distill": one, "seed": of, "outcome": asdict(ended)} for one, of, ended in self._kept]
            write_json(self._path, {"inputs_sha256": self._inputs, "trained": rows})

    @property
    def failed(self) -> bool:
        """Whether one did not come to its end."""
        return any(outcome.status == "failed" for *_, outcome in self._kept)

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
