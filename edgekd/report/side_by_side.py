"""Several runs beside one another, as one page that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekd.report import numbers
from edgekd.report.collect import ROLES, collect
from edgekd.report.page import environment, filled

_OF_ARTIFACTS = (("AP", "", "ap"), ("p50", "ms", "p50"), ("p90", "ms", "p90"), ("size", "B", "size_bytes"))


def collected(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What each run measured, with its name; runs of one name are told apart by their folder.

    Raises:
        InputError: one is no run directory.
    """
    names = [run.name or run.resolve().name for run in runs]
    short = len(set(names)) == len(names)
    return [{"run": name if short else str(run), **collect(run)} for name, run in zip(names, runs, strict=True)]


def rows(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per figure, for programs: `figure`, `unit`, and a value per run, None where it was not measured.

    AP in 0..1. Figures of artifacts are those of the same target on the same device.
    """
    found = [_row(f"AP of {role}", "", reports, lambda report, role=role: report[role]["ap"]) for role in ROLES]
    found.append(_row("gain over the control", "", reports, lambda report: report["gain"]["ap"]))
    found.append(_row("parameters of the student", "", reports, lambda report: report["student"]["parameters"]))
    names = dict.fromkeys(_name(one) for report in reports for one in report["artifacts"])
    for name in names:
        for figure, unit, key in (
            ("AP", "", "ap"),
            ("p50", "ms", "p50"),
            ("p90", "ms", "p90"),
            ("size", "B", "size_bytes"),
        ):
            row = _row(f"{name}: {figure}", unit, reports, lambda one, name=name, key=key: _of(one, name, key))
            found += [row] if any(value is not None for value in row["values"]) else []
    return found


def page(reports: Sequence[Mapping[str, Any]]) -> str:
    """HTML: verdicts, figures, AP per class, and the recipes' differences."""
    template = environment("ap", "signed", "digits", "megabytes", "count").get_template("side_by_side.html.j2")
    names = list(dict.fromkeys(name for report in reports for name in (report["student"]["per_class"] or {})))
    classes = [
        {"class": name, "values": [(report["student"]["per_class"] or {}).get(name) for report in reports]}
        for name in names
    ]  # fmt: skip
    shown = [{**row, "texts": [_text(row, value) for value in row["values"]]} for row in rows(reports)]
    comparable = len({_val(report) for report in reports}) == 1
    return filled(template, reports=reports, rows=shown, classes=classes, comparable=comparable)


def table(reports: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same for a terminal."""
    names = [report["run"] for report in reports]
    verdicts = [report["verdict"]["status"] or "not judged" for report in reports]
    lines = [{"": "gate", **dict(zip(names, verdicts, strict=True))}]
    for row in rows(reports):
        lines.append(
            {"": row["figure"], **dict(zip(names, (_text(row, value) for value in row["values"]), strict=True))}
        )
    return lines


def _row(figure: str, unit: str, reports: Sequence[Mapping[str, Any]], value: Any) -> dict[str, Any]:
    return {"figure": figure, "unit": unit, "values": [value(report) for report in reports]}


def _name(artifact: Mapping[str, Any]) -> str:
    return f"{artifact['target']}@{artifact['device'] or '-'}"


def _of(report: Mapping[str, Any], name: str, key: str) -> Any:
    for one in report["artifacts"]:
        if _name(one) == name:
            return one["latency_ms"][key] if key in ("p50", "p90") else one[key]
    return None


def _text(row: Mapping[str, Any], value: Any) -> str:
    if value is None:
        return numbers.DASH
    if row["unit"] == "B":
        return numbers.megabytes(value)
    if row["unit"] == "ms":
        return f"{numbers.digits(value)} ms"
    if row["figure"].startswith("parameters"):
        return numbers.count(value)
    return numbers.signed(value) if row["figure"].startswith("gain") else numbers.ap(value)


def _val(report: Mapping[str, Any]) -> Any:
    """Content hash of the validation split."""
    return (((report["data"] or {}).get("splits") or {}).get("val") or {}).get("content_hash")
