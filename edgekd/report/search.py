"""A search for a distiller as one page that loads nothing: its history, what decided, errors before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.measure.error_breakdown import KINDS
from edgekd.recipe.yaml_text import dump
from edgekd.report import numbers
from edgekd.report.page import environment, filled
from edgekd.report.plots import Figure, Key, Line, line_chart

_MODELS = {"teacher": "Teacher", "before": "Student before", "after": "Best after"}


def page(report: Mapping[str, Any]) -> str:
    """HTML of a search; `report` is the content of its JSON file."""
    template = environment("ap", "signed", "digits", "percent").get_template("search.html.j2")
    best = report["best"]
    return filled(
        template,
        report=report,
        figures=[figure for figure in (history(report),) if figure],
        errors=error_rows(report),
        models={role: title for role, title in _MODELS.items() if report["errors"].get(role)},
        recipe_text=dump({"distill": best["distill"]}) if best else "",
    )


def history(report: Mapping[str, Any]) -> Figure | None:
    """Score of each trial that came to its end, the best so far, and the control."""
    points = tuple((float(one["number"]), one["score"]) for one in report["trials"] if one["score"] is not None)
    if not points:
        return None
    best, so_far = [], float("-inf")
    for at, value in points:
        so_far = max(so_far, value)
        best.append((at, so_far))
    lines = [
        Line(Key("trial", "term0", "2 4"), points),
        Line(Key("best so far", "student", None, numbers.ap(so_far)), tuple(best)),
    ]
    if report["control"] is not None:
        level = ((points[0][0], report["control"]), (points[-1][0], report["control"]))
        lines.append(Line(Key("control", "control", "7 4", numbers.ap(report["control"])), level))
    chart = line_chart("AP over trials", lines, ("trial", "AP on held-out train images"))
    ended = len(report["trials"]) - len(points)
    note = f"{len(points)} trials came to their end; {ended} were ended early or dropped."
    return Figure("History", chart, tuple(line.key for line in lines), note, ())


def error_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per kind of error: number and cost of each model that was measured."""
    found = {role: one["errors"] for role, one in report["errors"].items() if one}
    return [
        {
            "kind": kind,
            "models": {role: (one["counts"][kind], one["costs"][kind]) for role, one in found.items()},
        }
        for kind in KINDS
    ]  # fmt: skip
