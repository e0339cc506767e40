"""Baselines of a run: saving what it measured, and reading it back for the gate and the history."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd import __version__
from edgekd.atomic import as_written, write_text
from edgekd.errors import EnvironmentFault, InputError
from edgekd.gate import baseline as gate
from edgekd.gate.baseline import Baseline
from edgekd.plain import word
from edgekd.report.artifacts import collect_artifacts
from edgekd.report.files import RunFiles
from edgekd.report.history import page
from edgekd.run_dir import LOCKED_RECIPE, RunDir, require_recipe


def of_run(run: Path, name: str, *, timed: bool = True) -> Baseline:
    """What a run has measured so far.

    Args:
        timed: with the figures of time.

    Raises:
        InputError: no run directory, or nothing was exported.
    """
    with as_written(run):
        return _of_run(run, name, timed)


def _of_run(run: Path, name: str, timed: bool) -> Baseline:
    artifacts, files = _artifacts(run), RunFiles(run)
    student = files.json("student/metrics.json") or {}
    entries = tuple(
        gate.entry(one, (files.json(f"profile/{one['target']}@{one['device']}.json") or {}).get("environment"))
        for one in (artifacts if timed else map(_untimed, artifacts))
    )
    splits = (files.json("data/split.json") or {}).get("splits", {})
    return Baseline(
        name=name, saved=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), recipe=_recipe(run)["name"],
        edgekd=__version__, data=splits.get("val", {}).get("content_hash"), student_ap=student.get("ap"),
        artifacts=entries,
    )  # fmt: skip


def save(run: Path, name: str, store: Path, *, replace: bool, timed: bool = True) -> dict[str, Any]:
    """Keep what a run measured; returns the file and what is in it.

    Args:
        timed: with the figures of time, which have to be fit for it.

    Raises:
        EnvironmentFault: a latency or throughput is invalid, or its spread too wide.
    """
    problems = [problem for one in _artifacts(run) for problem in gate.unfit(one)] if timed else []
    if problems:
        again = f"profile again on a quiet device ('edgekd profile {word(run)} --again')"
        problems.append(f"no baseline was saved; {again}, or keep no times ('--no-latency')")
        raise EnvironmentFault(*(f"{run}: {problem}" for problem in problems))
    kept = of_run(run, name, timed=timed)
    path = gate.save(store, kept, replace=replace)
    return {"file": str(path), **kept.model_dump(mode="json")}


def _artifacts(run: Path) -> list[dict[str, Any]]:
    """Rows of `report.json`."""
    RunDir.existing(run)
    require_recipe(run)
    files = RunFiles(run)
    with as_written(run):
        artifacts = collect_artifacts(files, _recipe(run), (files.json("student/metrics.json") or {}).get("ap"))
    if not artifacts:
        raise InputError(
            f"{run}: nothing is exported, so there is nothing to keep; run 'edgekd export {word(run)}' first"
        )
    return artifacts


def _untimed(artifact: Mapping[str, Any]) -> dict[str, Any]:
    return {**artifact, "valid": None, "throughput": [], "spread": None}


def _recipe(run: Path) -> dict[str, Any]:
    return RunFiles(run).yaml(LOCKED_RECIPE) or {}


def write_history(kept: Sequence[Baseline], store: Path, out: Path) -> None:
    """Draw baselines into an HTML page.

    Raises:
        InputError: there are none.
    """
    if not kept:
        raise InputError(f"{store}: no baselines to draw; keep one with 'edgekd baseline save RUN NAME'")
    write_text(out, page(kept))
