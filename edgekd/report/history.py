"""Accuracy and latency over the saved baselines, as one page that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekd.gate.baseline import Baseline, Entry
from edgekd.report import numbers
from edgekd.report.page import environment, filled
from edgekd.report.plots import Figure, Line, line_chart, series_key


def page(baselines: Sequence[Baseline]) -> str:
    """HTML of a history, oldest first."""
    found = (_figure(baselines, *what) for what in (("AP", "ap", "AP on val"), ("Latency", "p50_ms", "median, ms")))
    figures = [figure for figure in found if figure]
    template = environment(("ap", "digits", "megabytes")).get_template("history.html.j2")
    return filled(template, baselines=baselines, figures=figures)


def _figure(baselines: Sequence[Baseline], title: str, quantity: str, axis: str) -> Figure | None:
    names = list(dict.fromkeys(entry.name for one in baselines for entry in one.artifacts))
    lines = []
    for index, name in enumerate(names):
        points = tuple(
            (float(number), float(getattr(entry, quantity)))
            for number, one in enumerate(baselines, start=1)
            if (entry := _entry(one, name)) and getattr(entry, quantity) is not None
        )
        if points:
            lines.append(Line(series_key(name, index, numbers.digits(points[-1][1])), points))
    if not lines:
        return None
    note = "Numbers of the baselines as in the table."
    if quantity == "p50_ms":
        note += " Times of different environments do not compare; the table's fingerprints tell them apart."
    return Figure(
        title, line_chart(title, lines, ("baseline", axis), whole=True), tuple(line.key for line in lines), note, ()
    )


def _entry(one: Baseline, name: str) -> Entry | None:
    return next((entry for entry in one.artifacts if entry.name == name), None)


def rows(baselines: Sequence[Baseline]) -> list[dict[str, Any]]:
    """One row per artifact and baseline, oldest first, for the terminal and for programs."""
    return [
        {
            "artifact": name, "baseline": one.name, "saved": one.saved[:10], "ap": entry.ap, "p50_ms": entry.p50_ms,
            "size_bytes": entry.size_bytes, "where": (entry.fingerprint or "")[:6],
        }
        for name in dict.fromkeys(entry.name for one in baselines for entry in one.artifacts)
        for one in baselines
        if (entry := _entry(one, name))
    ]  # fmt: skip
