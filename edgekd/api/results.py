"""A run directory, read: accuracy, artifacts, samples of latency, detections, the verdict. Nothing is changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.api import html
from edgekd.api.detections import Detections, of_line
from edgekd.api.predictor import Predictor, load
from edgekd.api.recipe import Recipe
from edgekd.api.shown import Verdict
from edgekd.api.typed import typed_errors
from edgekd.atomic import as_written
from edgekd.errors import InputError, unknown
from edgekd.plain import listed, word
from edgekd.report.collect import ROLES, collect
from edgekd.report.files import RunFiles
from edgekd.run_dir import LOCKED_RECIPE, RunDir

_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Artifact:
    """What a run exported for one target.

    Attributes:
        target: its name.
        folder: the model's files and `edgekd.json`.
        runtime, precision: that it is for.
        size_bytes: of all files together; None where one is missing.
        parity: how far it is from the torch student.
    """

    target: str
    folder: Path
    runtime: str | None
    precision: str | None
    size_bytes: int | None
    parity: dict[str, Any]

    def load(self, **options: Any) -> Predictor:
        """Open it on this machine; options as of `edgekd.load`."""
        return load(self.folder, **options)


class Run:
    """A run directory, finished or not.

    What was not done yet raises an `InputError` that names the stage, its command, and what can be read all the same.

    Attributes:
        path: the directory.
    """

    @typed_errors
    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._manifest = RunDir.existing(self.path).manifest

    @property
    def stages(self) -> dict[str, float]:
        """Finished stages, in the order in which they ended, and the seconds that each took."""
        return {name: float(entry.get("seconds", 0.0)) for name, entry in self._manifest["stages"].items()}

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with every default filled in, a recipe itself."""
        base = Path(self._manifest["base"])
        return Recipe._made(Recipe.load(self.path / LOCKED_RECIPE).content, None, base)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """All that was measured, as in `report.json` but for `shipping`; None stands for what was not."""
        return self._collected()

    @typed_errors
    def _collected(self) -> dict[str, Any]:
        with as_written(self.path):
            return collect(self.path)

    @property
    def ap(self) -> dict[str, float | None]:
        """AP in 0..1 of every model: `teacher`, `control`, `student`, and `target@device` of the artifacts."""
        models = {role: self.summary[role]["ap"] for role in ROLES if self.summary[role]["source"]}
        rows = [row for row in self.summary["artifacts"] if row["device"]]
        return models | {f"{row['target']}@{row['device']}": row["ap"] for row in rows}

    @property
    def gain(self) -> float | None:
        """AP of the student above that of the control; None without a control."""
        found: float | None = self.summary["gain"]["ap"]
        return found

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """By target."""
        found = {}
        for row in self.summary["artifacts"]:
            facts = (row[key] for key in ("runtime", "precision", "size_bytes", "parity"))
            found[row["target"]] = Artifact(row["target"], self.path / "export" / row["target"], *facts)
        return found

    @property
    def verdict(self) -> Verdict:
        """Of the gate.

        Raises:
            InputError: nothing was judged yet.
        """
        with as_written(self._file("verdict.json", "gate")):
            return Verdict.of(self._read("verdict.json", "gate"))

    @property
    def passed(self) -> bool:
        """Whether the gate passed."""
        return self.verdict.passed

    @property
    def report(self) -> Path:
        """The report's HTML file.

        Raises:
            InputError: there is none yet.
        """
        return self._file("report.html", "report")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the data."""
        return tuple(self._read("data/split.json", "data")["class_names"])

    @typed_errors
    def latency(self, name: str) -> dict[str, npt.NDArray[np.float64]]:
        """Samples in ms, all processes one after the other: `pre`, `inference`, `post`, `end_to_end`, each (N,).

        They are the raw ones, whether or not the measurement is valid: `summary["artifacts"]` says that.

        Args:
            name: `target@device`.
        """
        phases: dict[str, list[int]] = {}
        for event in self._lines(f"profile/{name}.jsonl", f"profile/{name}"):
            if event.get("event") == "samples":
                for key, values in event.items():
                    if key.endswith("_ns") and isinstance(values, list):
                        phases.setdefault(key.removesuffix("_ns"), []).extend(values)
        return {phase: np.asarray(values, np.float64) / _NS_PER_MS for phase, values in phases.items()}

    @typed_errors
    def detections(self, name: str) -> dict[str, Detections]:
        """What a model found in each validation image, by the image's file name, in pixels of the image.

        All that `validate.conf` let through: filter by `found.confidence`.

        Args:
            name: `teacher`, `control`, `student`, or `target@device`.
        """
        model = name if "@" in name else f"{name}@host"
        stage = f"accuracy/{name}" if "@" not in name else f"validate/{name}"
        files = {image["image_id"]: str(image["file_name"]) for image in self._truth()}
        lines = self._lines(f"validate/{model}.detections.jsonl", stage)
        return {files[line["image_id"]]: of_line(line, self.class_names) for line in lines}

    @typed_errors
    def labels(self) -> dict[str, Detections]:
        """Ground truth of each validation image, by file name; crowds are left out."""
        found = {}
        for image in self._truth():
            labels = of_line(image, self.class_names)
            found[str(image["file_name"])] = labels[~np.asarray(image["is_crowd"], bool)]
        return found

    @typed_errors
    def epochs(self, model: str = "student") -> dict[str, npt.NDArray[np.float64]]:
        """Columns of a training's `epochs.csv`, each (epochs,); a cell that is empty is NaN."""
        self._file(f"{model}/epochs.csv", model)
        rows = RunFiles(self.path).csv(f"{model}/epochs.csv")
        return {key: np.array([float(row[key] or "nan") for row in rows]) for key in (rows[0] if rows else ())}

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {', '.join(self.stages) or 'nothing done'})"

    def _repr_html_(self) -> str:
        models = [{"model": name, "AP": ap} for name, ap in self.ap.items() if "@" not in name]
        artifacts = [
            {"artifact": f"{row['target']}@{row['device'] or '-'}", "AP": row["ap"],
             "median ms": row["latency_ms"]["p50"], "p90 ms": row["latency_ms"]["p90"],
             "MB": None if row["size_bytes"] is None else row["size_bytes"] / 1e6}
            for row in self.summary["artifacts"]
        ]  # fmt: skip
        verdict = self.verdict._repr_html_() if (self.path / "verdict.json").is_file() else "<p>gate: not judged</p>"
        title = f"<p>run {html.text(self.path)} of recipe {html.text(self.summary['recipe'])}</p>"
        return f"<div>{title}{verdict}{html.table(models)}{html.table(artifacts)}</div>"

    def _truth(self) -> list[dict[str, Any]]:
        return list(self._read("data/ground_truth-val.json", "data")["images"])

    def _read(self, name: str, stage: str) -> dict[str, Any]:
        self._file(name, stage)
        return RunFiles(self.path).json(name) or {}

    def _lines(self, name: str, stage: str) -> Iterator[dict[str, Any]]:
        file = self._file(name, stage)
        RunFiles(self.path).sha256(name)  # as its stage wrote it
        with as_written(file), file.open(encoding="utf-8") as stream:
            for line in stream:
                yield json.loads(line)

    def _file(self, name: str, stage: str) -> Path:
        """A file of a stage.

        Raises:
            InputError: it is not there; says which stage writes it, and what there is.
        """
        path = self.path / name
        if path.is_file():
            return path
        kind, _, part = stage.partition("/")
        alone = kind in ("export", "validate", "profile", "gate", "report")
        command = f"edgekd {kind} {word(self.path)}" if alone else f"edgekd run RECIPE --out {word(self.path)}"
        known = sorted(other.partition("/")[2] for other in self.stages if other.startswith(f"{kind}/"))
        if part and known and part not in known:
            raise InputError(f"{self.path}: {kind}: {unknown('name', part, known)}")
        done = listed(self.stages)
        raise InputError(
            f"{self.path}: stage '{stage}' has not been done ({name} is missing); run '{command}'; done, and to be "
            f"read all the same: {done}"
        )
