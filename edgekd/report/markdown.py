"""The Markdown twin of the report: compact enough for a pull request, the verdict first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekd.plain import markdown as escape
from edgekd.plain import markdown_code
from edgekd.report.data_tables import data_tables
from edgekd.report.errors import error_rows
from edgekd.report.numbers import (
    DASH,
    ROLE_NAMES,
    ap,
    digits,
    gain_words,
    inherited_words,
    megabytes,
    of_metric,
    percent,
    signed,
)
from edgekd.report.since import comparable
from edgekd.report.throughput import alone, alone_per_second, load

_MARKS = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "invalid": "⚠️"}
_SIGNS = {">=": "≥", "<=": "≤"}


def markdown(report: Mapping[str, Any]) -> str:
    """The whole text; everything from the run is escaped, mentions included."""
    parts = [
        _verdict(report),
        _since(report),
        _bullets("Warnings", report["warnings"]),
        _models(report),
        _test(report),
        _errors(report),
        _artifacts(report),
        _lanes(report),
        _throughput(report),
        _checks(report),
        _data(report),
        _reproduce(report),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _since(report: Mapping[str, Any]) -> str:
    """What changed since the release that the gate compares with."""
    since = report.get("since")
    if not since:
        return ""
    formats = {"ap": ap, "p50_ms": digits, "p90_ms": digits, "images_per_second": digits, "size_bytes": megabytes}
    rows = []
    for entry in since["artifacts"]:
        cells = []
        for key, shown in formats.items():
            pair = entry[key]
            both = f"{shown(pair['before'])} → {shown(pair['now'])}"
            cells.append(both if comparable(entry, key) or None in pair.values() else f"{both} (elsewhere)")
        rows.append([markdown_code(entry["artifact"]), *cells, entry["state"].replace("both", "")])
    head = ["Artifact", "AP", "p50, ms", "p90, ms", "Images/s", "Size", ""]
    note = "" if since["same_data"] else "\n\nAP was measured on other images then."
    return f"### Since {escape(since['baseline'])}\n\n{table(head, rows)}{note}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are escaped already; all columns but the first are aligned right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _verdict(report: Mapping[str, Any]) -> str:
    status = report["verdict"]["status"]
    mark = f"{_MARKS[status]} {status}" if status in _MARKS else "not judged"
    lines = [f"## edgekd: {escape(report['recipe'])}: {mark}"]
    if report["verdict"]["reasons"]:
        lines.append("\n".join(f"- {escape(reason)}" for reason in report["verdict"]["reasons"]))
    return "\n\n".join(lines)


def _bullets(title: str, lines: Sequence[str]) -> str:
    return f"**{title}**\n\n" + "\n".join(f"- {escape(line)}" for line in lines) if lines else ""


def _models(report: Mapping[str, Any]) -> str:
    rows = []
    for role, title in ROLE_NAMES.items():
        model = report[role]
        rows.append([title, escape(model["name"] or DASH), *(ap(model[key]) for key in ("ap", "ap50", "ap75"))])
    for model in report["further_teachers"]:
        figures = (ap(model[key]) for key in ("ap", "ap50", "ap75"))
        rows.append([f"Teacher {escape(model['teacher'])}", escape(model["name"] or DASH), *figures])
    for part in report["prepared"]:
        figures = (ap(part[key]) for key in ("ap", "ap50", "ap75"))
        rows.append([f"Absorbed by {escape(part['method'])}", DASH, *figures])
    gain = report["gain"]
    closed = f", {percent(gain['normalised'])} of its AP" if gain["normalised"] is not None else ""
    closed += f", {percent(gain['gap_closed'])} of the gap to the teacher" if gain["gap_closed"] is not None else ""
    seeds, one = report["seeds"], "" if gain["ap"] is None else " (one run, without an interval)"
    text = f"\n\nGain over the control: **{signed(gain['ap'])} AP**{closed}{one}." if gain["ap"] is not None else ""
    if seeds and seeds["gain"]:
        text = f"\n\nGain over the control: **{gain_words(seeds['gain'])}** (95 % interval); seed {seeds['selected']}"
        text += f" goes on ({seeds['select']})."
    taken = report["student"]["inherited"]
    text += f"\n\n{inherited_words(taken)}" if taken else ""
    return table(["Model", "name", "AP", "AP50", "AP75"], rows) + text


def _test(report: Mapping[str, Any]) -> str:
    """Where the data has a test split: what nothing was chosen by."""
    test = report["test"]
    if not test:
        return ""
    models = {role: found for role, found in test["models"].items() if role in ROLE_NAMES}
    rows = [[ROLE_NAMES[role], *(ap(found[key]) for key in ("ap", "ap50", "ap75"))] for role, found in models.items()]
    gain = f"\n\nGain on test: **{gain_words(test['gain'])}**." if test["gain"] else ""
    return table([f"On test, {test['images']} images", "AP", "AP50", "AP75"], rows) + gain


def _errors(report: Mapping[str, Any]) -> str:
    """By kind: how many, and what they cost."""
    rows = [
        [entry.kind, *(DASH if found is None else f"{found[0]:,} ({ap(found[1])})" for found in entry.models.values())]
        for entry in error_rows(report)
    ]
    note = "Number of errors at IoU 0.5, and the AP50 that mending this kind alone would add."
    return f"{table(['Errors', *ROLE_NAMES.values()], rows)}\n\n{note}" if rows else ""


def _artifacts(report: Mapping[str, Any]) -> str:
    if not report["artifacts"]:
        return ""
    best = report["best"] or {}
    powered = any(artifact["energy_mj_per_inference"] is not None for artifact in report["artifacts"])
    rows = []
    for artifact in report["artifacts"]:
        name = escape(f"{artifact['target']}@{artifact['device']}" if artifact["device"] else artifact["target"])
        is_best = best.get("target") is not None and (artifact["target"], artifact["device"]) == (
            best["target"], best["device"],
        )  # fmt: skip
        latency = artifact["latency_ms"]
        invalid = " ⚠️" if artifact["valid"] is False else ""
        rows.append([
            f"**{name}**" if is_best else name,
            escape(artifact["accuracy"]) if artifact["accuracy"] else ap(artifact["ap"]),
            ap(artifact["ap50"]),
            signed(None if artifact["ap_drop"] is None else -artifact["ap_drop"]),
            digits(artifact["parity"]["max_abs"]),
            *(digits(latency[key]) + (invalid if latency[key] is not None else "") for key in ("p50", "p90", "p99")),
            *([digits(artifact["energy_mj_per_inference"])] if powered else []),
            megabytes(artifact["size_bytes"]),
        ])  # fmt: skip
    head = ["Artifact", "AP", "AP50", "vs torch", "parity", "p50 ms", "p90 ms", "p99 ms", "mJ", "size"]
    head = [title for title in head if powered or title != "mJ"]
    rule = f"\n\n{'No single best' if best['tied'] else 'Bold'}: {escape(best['rule'])}." if best else ""
    notes = _bullets("Notes on latency", list(notes_of(report["artifacts"])))
    return table(head, rows) + "\n\nLatency is end to end." + rule + (f"\n\n{notes}" if notes else "")


def notes_of(artifacts: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a reader should know of figures of time, each with the artifact, load or lane that it is of."""
    for artifact in artifacts:
        name = f"{artifact['target']}@{artifact['device']}"
        own = [(name, artifact["notes"])]
        own += [(f"{name}, {load(entry)}", entry["notes"]) for entry in artifact["throughput"]]
        own += [(f"{name}, {lane['tool']}, {lane['lane']}", lane["notes"]) for lane in artifact["lanes"]]
        yield from (f"{what}: {note}" for what, notes in own for note in notes or ())


def _lanes(report: Mapping[str, Any]) -> str:
    """Of timing programs."""
    rows = []
    for artifact in report["artifacts"]:
        name = escape(f"{artifact['target']}@{artifact['device']}")
        for lane in artifact["lanes"]:
            figures = lane["latency_ms"]["inference"]
            valid = "" if lane["valid"] else " ⚠️"
            shown = [digits(figures[key]) for key in ("p50", "p90", "p99")]
            rows.append([
                name, escape(", ".join(part for part in (lane["tool"], lane["lane"], lane["size"]) if part)) + valid,
                *shown, digits(lane["own_mean_ms"]), digits(lane["energy_mj_per_inference"]),
            ])  # fmt: skip
    if not rows:
        return ""
    head = ["Inference alone", "by", "p50 ms", "p90 ms", "p99 ms", "its own mean ms", "mJ"]
    note = "Without pre- and post-processing: not to be compared with latency end to end."
    return f"{table(head, rows)}\n\n{note}"


def _throughput(report: Mapping[str, Any]) -> str:
    """Each load below the single stream of its artifact."""
    rows = []
    for artifact in report["artifacts"]:
        if not artifact["throughput"]:
            continue
        name, single = escape(f"{artifact['target']}@{artifact['device']}"), artifact["latency_ms"]
        figures = (digits(figure) for figure in (single["p50"], single["p90"]))
        rows.append([name, alone(artifact), digits(alone_per_second(artifact)), "", *figures])
        for entry in artifact["throughput"]:
            latency, valid = entry["latency_ms"], "" if entry["valid"] else " ⚠️"
            found = (entry["images_per_second"], entry["ratio_to_single_stream"], latency["p50"], latency["p90"])
            rows.append([name, load(entry) + valid, *(digits(figure) for figure in found)])
    if not rows:
        return ""
    head = ["Throughput", "at once", "images/s", "ratio", "p50 ms", "p90 ms"]
    return f"{table(head, rows)}\n\nFrom frame to detections; latency is of one inference while the others work."


def _checks(report: Mapping[str, Any]) -> str:
    checks = report["verdict"]["checks"]
    if not checks:
        return ""
    rows = [
        [
            f"{escape(check['metric'])}, {escape(check['subject'])}",
            of_metric(check["metric"], check["value"]),
            f"{_SIGNS.get(check['op'], check['op'])} {of_metric(check['metric'], check['limit'])}",
            f"{_MARKS.get(check['status'], '')} {escape(check['status'])}",
        ]
        for check in checks
    ]
    return table(["Check", "value", "budget", "status"], rows)


def _data(report: Mapping[str, Any]) -> str:
    tables = data_tables(report["data"])
    if tables is None:
        return ""
    rows = [
        [escape(title), *(DASH if value is None else f"{value:,}" for value in values)]
        for title, values in tables.facts
    ]
    return table(["Data", *(escape(split) for split in tables.splits)], rows)


def _reproduce(report: Mapping[str, Any]) -> str:
    return f"Made by edgekd {escape(report['edgekd_version'])} with\n\n{markdown_code(report['command'])}"
