"""Baselines of a run: saving what it measured, and reading it back for the gate and the history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.atomic import write_text
from edgekd.errors import InputError
from edgekd.gate import baseline as gate
from edgekd.gate.baseline import Baseline
from edgekd.report.artifacts import collect_artifacts
from edgekd.report.files import RunFiles
from edgekd.report.history import page
from edgekd.run_dir import LOCKED_RECIPE, RunDir, require_recipe


def of_run(run: Path, name: str) -> Baseline:
    """What a run has measured so far.

    Raises:
        InputError: no run directory, or nothing was exported.
    """
    RunDir.existing(run)
    require_recipe(run)
    files = RunFiles(run)
    recipe, student = files.yaml(LOCKED_RECIPE) or {}, files.json("student/metrics.json") or {}
    artifacts = collect_artifacts(files, recipe, student.get("ap"))
    if not artifacts:
        raise InputError(f"{run}: nothing is exported, so there is nothing to keep; run 'edgekd export {run}' first")
    entries = tuple(
        gate.entry(one, (files.json(f"profile/{one['target']}@{one['device']}.json") or {}).get("environment"))
        for one in artifacts
    )
    splits = (files.json("data/split.json") or {}).get("splits", {})
    return Baseline(
        name=name, saved=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), recipe=recipe["name"],
        edgekd=__version__, data=splits.get("val", {}).get("content_hash"), student_ap=student.get("ap"),
        artifacts=entries,
    )  # fmt: skip


def save(run: Path, name: str, store: Path, *, replace: bool) -> dict[str, Any]:
    """Keep what a run measured; returns the file and what is in it."""
    kept = of_run(run, name)
    path = gate.save(store, kept, replace=replace)
    return {"file": str(path), **kept.model_dump(mode="json")}


def write_history(kept: Sequence[Baseline], store: Path, out: Path) -> None:
    """Draw baselines into an HTML page.

    Raises:
        InputError: there are none.
    """
    if not kept:
        raise InputError(f"{store}: no baselines to draw; keep one with 'edgekd baseline save RUN NAME'")
    write_text(out, page(kept))
