"""Accuracy and latency over the saved baselines, as one page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekd.gate.baseline import Baseline, Entry
from edgekd.report import numbers
from edgekd.report.page import environment, filled
from edgekd.report.plots import Figure, Line, line_chart, series_key

_FIGURES = (
    ("AP", "ap", "AP on val"),
    ("Latency", "p50_ms", "median, ms"),
    ("Throughput", "images_per_second", "images per second"),
)


def page(baselines: Sequence[Baseline]) -> str:
    """HTML of a history, oldest first."""
    figures = [figure for what in _FIGURES if (figure := _figure(baselines, *what))]
    template = environment("ap", "digits", "megabytes").get_template("history.html.j2")
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
    note = "Where names would not fit, some are left out or cut; the table has all."
    if quantity == "images_per_second":
        note += " Of the fastest load that each baseline has."
    if quantity != "ap":
        note += " Times of different environments do not compare; the table's fingerprints tell them apart."
    names = [one.name for one in baselines]
    chart = line_chart(title, lines, ("baseline", axis), names=names)
    return Figure(title, chart, tuple(line.key for line in lines), note, ())


def _entry(one: Baseline, name: str) -> Entry | None:
    return next((entry for entry in one.artifacts if entry.name == name), None)


def rows(baselines: Sequence[Baseline]) -> list[dict[str, Any]]:
    """One row per artifact and baseline, oldest first, for programs."""
    return [
        {
            "artifact": name, "baseline": one.name, "saved": one.saved, "ap": entry.ap, "p50_ms": entry.p50_ms,
            "p90_ms": entry.p90_ms, "images_per_second": entry.images_per_second, "size_bytes": entry.size_bytes,
            "peak_memory_mb": entry.peak_memory_mb, "environment": entry.fingerprint,
        }
        for name in dict.fromkeys(entry.name for one in baselines for entry in one.artifacts)
        for one in baselines
        if (entry := _entry(one, name))
    ]  # fmt: skip


def shown(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `rows` for people."""
    return [
        {
            "artifact": row["artifact"], "baseline": row["baseline"], "saved": row["saved"][:10],
            "AP": numbers.ap(row["ap"]), "median ms": numbers.digits(row["p50_ms"]),
            "images/s": numbers.digits(row["images_per_second"]), "size": numbers.megabytes(row["size_bytes"]),
            "where": (row["environment"] or "")[:6],
        }
        for row in found
    ]  # fmt: skip
