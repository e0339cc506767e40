"""Gathers `report.json` from the files of a run directory, and from nothing else. What was not measured is null."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import edgekd
from edgekd.errors import InputError
from edgekd.measure.gain import gap_closed, normalised_gain
from edgekd.plain import word
from edgekd.report.artifacts import collect_artifacts
from edgekd.report.files import RunFiles, number
from edgekd.report.pareto import best_artifact, mark_front
from edgekd.report.since import changes
from edgekd.report.warn import warnings_of

SCHEMA = "edgekd.report/2"
ROLES = ("teacher", "control", "student")
_ACCURACY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "per_class", "operating_point", "errors")
_DETAILS = ("name", "family", "parameters", "weights_sha256", "head", "classes_known", "epochs", "seconds", "inherited")
_OWN_FILES = {
    "teacher": "teacher/teacher.json",
    "control": "control/metrics.json",
    "student": "student/metrics.json",
}


def collect(run: Path) -> dict[str, Any]:
    """The content of `report.json`; AP in 0..1, times in the unit of the key.

    What a former recipe of the same name left behind (a target, a control, terms) is not shown.

    `files` holds the sha256 of everything that was read (the manifest apart, which goes on changing).

    Raises:
        InputError: no run directory, or a file of it cannot be read.
    """
    files = RunFiles(run)
    recipe = files.yaml("recipe.lock.yaml")
    if recipe is None:
        raise InputError(
            f"{run}: no run directory (recipe.lock.yaml is missing); run 'edgekd run RECIPE --out {word(run)}'"
        )
    manifest = files.json("manifest.json") or {}
    report: dict[str, Any] = {"schema": SCHEMA, "recipe": str(recipe.get("name") or Path(run).name)}
    report["edgekd_version"] = edgekd.__version__
    report["command"] = _command(run, manifest)
    report["seed"] = None if recipe.get("seeds") else recipe.get("seed")
    report |= {role: _model(files, role if recipe.get(role, True) else None) for role in ROLES}
    report["further_teachers"] = _further_teachers(files, recipe)
    report["prepared"] = _prepared(files, recipe)
    report["seeds"] = files.json("seeds.json") if recipe.get("seeds") else None
    report["gain"] = _gain(report)
    report["test"] = files.json("test.json")
    gate = recipe.get("gate") or {}
    report["artifacts"] = collect_artifacts(files, recipe, report["student"]["ap"])
    mark_front(report["artifacts"])
    report["best"] = best_artifact(report["artifacts"], report["student"]["ap"], gate.get("max_ap_drop"))
    report["verdict"] = _verdict(files.json("verdict.json"))
    report["distillation"] = _distillation(files, recipe)
    report["data"] = files.json("data/split.json")
    report["since"] = changes(files, recipe, report)
    report["devices"] = _environments(files, report["artifacts"])
    report["manifest"] = {key: value for key, value in manifest.items() if key != "base"} or None  # no private path
    report["gate"] = gate
    report["warnings"] = warnings_of(report)
    report["files"] = dict(sorted((name, digest) for name, digest in files.hashes.items() if name != "manifest.json"))
    return report


def _model(files: RunFiles, role: str | None) -> dict[str, Any]:
    """Teacher, control or student: AP from `validate/`, where all are measured alike, else from its own stage.

    None stands for a model that the recipe does not have; all of its figures are null.
    """
    own_name, accuracy_name = _OWN_FILES.get(role or "", ""), f"validate/{role}@host.json"
    own, accuracy = (files.json(own_name), files.json(accuracy_name)) if role else (None, None)
    figures = own if accuracy is None else accuracy
    model = {key: (own or {}).get(key) for key in _DETAILS}
    model |= {key: (figures or {}).get(key) for key in _ACCURACY}
    model["own_ap"] = (own or {}).get("ap")
    model["source"] = None if figures is None else (own_name if accuracy is None else accuracy_name)
    return model


def _further_teachers(files: RunFiles, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those under `teachers` and `ensembles`, from whom single methods learn."""
    found = []
    for name in (*(recipe.get("teachers") or ()), *(recipe.get("ensembles") or ())):
        own = files.json(f"teacher/{name}.json") or {}
        figures = files.json(f"validate/teacher.{name}@host.json") or own
        found.append({"teacher": name, "name": own.get("name"), **{key: figures.get(key) for key in _ACCURACY[:3]}})
    return found


def _prepared(files: RunFiles, recipe: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of methods that train a module of the teacher alone: the AP that it reaches by itself."""
    entries = recipe.get("distill") or ()
    methods = [str(entry["method"]) if isinstance(entry, Mapping) else str(entry) for entry in entries]
    found = []
    for file in files.names("prepare/*/metrics.json"):
        label = file.split("/")[1]
        if any(label == name or (label.startswith(name) and label[len(name) :].isdigit()) for name in methods):
            figures = files.json(file) or {}
            found.append({"method": label, **{key: figures.get(key) for key in (*_ACCURACY[:3], "teacher_ap")}})
    return found


def _gain(report: Mapping[str, Any]) -> dict[str, float | None]:
    """`ap`: student minus control, of several seeds the mean.

    `gap_closed`: as a share of teacher minus control. `normalised`: as a share of the control.
    """
    teacher, control, student = (report[role]["ap"] for role in ROLES)
    if report["seeds"] and report["seeds"]["gain"]:
        rows = report["seeds"]["seeds"]
        control, student = (sum(row[key] for row in rows) / len(rows) for key in ("control_ap", "student_ap"))
    if control is None or student is None:
        return {"ap": None, "gap_closed": None, "normalised": None}
    return {
        "ap": student - control,
        "gap_closed": gap_closed(student, control, teacher),
        "normalised": normalised_gain(student, control),
    }


def _verdict(verdict: Mapping[str, Any] | None) -> dict[str, Any]:
    verdict = verdict or {}
    return {
        "status": verdict.get("status"),
        "reasons": verdict.get("reasons") or [],
        "checks": verdict.get("checks") or [],
    }


def _distillation(files: RunFiles, recipe: Mapping[str, Any]) -> dict[str, Any]:
    if not recipe.get("distill", True):
        return {"methods": [], "first_steps": None, "terms": []}
    return {
        "methods": recipe.get("distill") or [],
        "first_steps": files.json("student/first_steps.json"),
        "terms": _terms(files.csv("student/terms.csv")),
    }


def _terms(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Per term: first and last weighted value, and its mean share of the loss over the steps in which it acts."""
    by_term: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        by_term.setdefault(row["term"], []).append(row)
    summary = []
    for term, entries in by_term.items():
        acting = [entry for entry in entries if number(entry.get("weight")) != 0]
        shares = [share for share in (number(entry.get("share")) for entry in acting) if share is not None]
        summary.append({
            "term": term,
            "steps": len(entries),
            "first_weighted": number(entries[0].get("weighted")),
            "last_weighted": number(entries[-1].get("weighted")),
            "mean_share": sum(shares) / len(shares) if shares else None,
        })  # fmt: skip
    return summary


def _environments(files: RunFiles, artifacts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Device -> the environment record of its first profile."""
    environments: dict[str, Any] = {}
    for artifact in artifacts:
        source = artifact["sources"]["latency"]
        if source and artifact["device"] not in environments:
            environments[artifact["device"]] = (files.json(source) or {}).get("environment")
    return environments


def _command(run: Path, manifest: Mapping[str, Any]) -> str:
    """The command that makes this run again: as it was given, else from the locked recipe."""
    given = manifest.get("command")
    if isinstance(given, str) and given:
        return given
    shown = Path(run).name if Path(run).is_absolute() else Path(run).as_posix()
    return f"edgekd run {word(f'{shown}/recipe.lock.yaml')} --out {word(shown)}"
