"""Writes the report of a run: `report.json` for programs, `report.html` for people, `report.md` for pull requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekd.atomic import as_written, write_json, write_text
from edgekd.report import numbers, throughput
from edgekd.report.artifacts import PERCENTILES, STAGES
from edgekd.report.collect import ROLES, collect
from edgekd.report.data_tables import data_tables
from edgekd.report.errors import error_rows
from edgekd.report.files import RunFiles
from edgekd.report.markdown import markdown
from edgekd.report.page import environment, filled
from edgekd.report.quantised import quantised
from edgekd.report.shipping import diagnosed, worst
from edgekd.report.since import comparable

_TITLES = {"pass": "Passed", "fail": "Failed", "inconclusive": "Inconclusive", "invalid": "Invalid"}
_STAGE_TITLES = ("Pre-processing", "Inference", "Post-processing", "End to end")


def render(run: Path, images: bool = True, examples: int = 6) -> dict[str, Any]:
    """Write `report.json`, `report.html` and `report.md` into the run directory.

    Args:
        run: the run directory; stages that were not run are shown as not measured.
        images: False leaves every image out.
        examples: how many images the gallery shows.

    Returns:
        The content of `report.json`.

    Raises:
        InputError: no run directory, or a file of it cannot be read.
        EnvironmentFault: the disk is full or read-only.
    """
    with as_written(run):
        report = collect(run)
        report["shipping"] = diagnosed(RunFiles(run), report)
        page, text = html(run, report, examples if images else 0), markdown(report)
    write_json(run / "report.json", report)
    write_text(run / "report.html", page)
    write_text(run / "report.md", text)
    return report


def html(run: Path, report: Mapping[str, Any], examples: int) -> str:
    """The page: one file that loads nothing. Everything from the run is escaped; only our own SVG is markup."""
    from edgekd.report.curves import training_curves
    from edgekd.report.gains import gain_over_seeds, seed_rows
    from edgekd.report.gallery import gallery
    from edgekd.report.plots import ap_over_epochs, latency_histograms, loss_terms
    from edgekd.report.scatter import accuracy_against_latency
    from edgekd.report.score_plots import figures as score_figures

    files = RunFiles(run)
    templates = environment(
        "ap",
        "signed",
        "digits",
        "percent",
        "megabytes",
        "count",
        "seconds",
        "of_metric",
        "gain_words",
        "inherited_words",
    )
    templates.filters |= {
        "comparable": comparable,
        "load": throughput.load,
        "alone": throughput.alone,
        "alone_per_second": throughput.alone_per_second,
    }
    return filled(
        templates.get_template("report.html.j2"),
        report=report,
        recipe_text=_text(run / "recipe.lock.yaml"),
        verdict_title=_TITLES.get(report["verdict"]["status"], "Not judged"),
        roles={role: numbers.ROLE_NAMES[role] for role in ROLES},
        stages=dict(zip(STAGES, _STAGE_TITLES, strict=True)),
        percentiles=PERCENTILES,
        overview=[figure for figure in (accuracy_against_latency(report), ap_over_epochs(files, report)) if figure],
        terms=loss_terms(files) if report["distillation"]["terms"] else [],
        histograms=latency_histograms(report["artifacts"]),
        gallery=gallery(files, report, examples),
        worst=worst(files, report, examples),
        curves=training_curves(files),
        score_figures=score_figures(report["shipping"], (report["data"] or {}).get("class_names") or []),
        formats=numbers,
        classes=per_class(report),
        data=data_tables(report["data"]),
        quantised=quantised(report),
        seeds=seed_rows(report),
        seeds_figure=gain_over_seeds(report),
        errors=error_rows(report),
        gain_range=_gain_range(report),
        environment=_environment(report),
    )


def per_class(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the table of classes: AP of each model, the student's gain, and AP of each artifact; all may be None."""
    models = [report[role]["per_class"] or {} for role in ROLES]
    artifacts = [artifact["per_class"] or {} for artifact in validated(report)]
    names = [str(name) for name in (report["data"] or {}).get("class_names") or []]
    names += [name for figures in (*models, *artifacts) for name in figures if name not in names]
    rows = []
    for name in dict.fromkeys(names):
        teacher, control, student = (figures.get(name) for figures in models)
        gain = None if student is None or control is None else student - control
        others = [figures.get(name) for figures in artifacts]
        rows.append({"name": name, "models": [teacher, control, student], "gain": gain, "artifacts": others})
    return rows if any(models) or any(artifacts) else []


def validated(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Artifacts with an AP per class."""
    return [artifact for artifact in report["artifacts"] if artifact["per_class"]]


def _gain_range(report: Mapping[str, Any]) -> float:
    """Half the width of the axis of the gains per class: the largest one, rounded up to 0.05."""
    gains = [abs(row["gain"]) for row in per_class(report) if row["gain"] is not None]
    return 0.05 * max(math.ceil(max(gains, default=0.0) / 0.05 - 1e-9), 1)


def _environment(report: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    return {device: numbers.flat(record) for device, record in report["devices"].items() if record}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
