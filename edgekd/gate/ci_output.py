"""A verdict in the forms that CI systems read: Markdown for a pull request, JUnit XML, GitHub annotations."""

from __future__ import annotations

from xml.etree import ElementTree

from edgekd import plain
from edgekd.gate.verdict import Check, Status, Verdict

_SIGNS: dict[Status, str] = {"pass": "✅", "fail": "❌", "inconclusive": "❔", "invalid": "⚠️"}
_RANK: dict[Status, int] = {"pass": 0, "inconclusive": 1, "invalid": 2, "fail": 3}
_LEVELS: dict[Status, str] = {"fail": "error", "invalid": "error", "inconclusive": "warning"}


def markdown(verdict: Verdict, title: str) -> str:
    """A heading and a table with a row per check, worst first."""
    worst_first = sorted(_cases(verdict), key=lambda check: -_RANK[check.status])
    rows = [
        "| " + " | ".join([f"{_SIGNS[check.status]} {check.status}", *map(plain.markdown, _cells(check))]) + " |"
        for check in worst_first
    ]
    head = ["| status | budget | of | measured |", "| --- | --- | --- | --- |"]
    return "\n".join([f"### {_SIGNS[verdict.status]} {plain.markdown(title)}: {verdict.status}", "", *head, *rows, ""])


def junit(verdict: Verdict, title: str) -> str:
    """A test suite with a case per check; what was not measured well enough is skipped, not passed."""
    cases = _cases(verdict)
    counts = [sum(check.status == status for check in cases) for status in ("fail", "invalid", "inconclusive")]
    names = ("failures", "errors", "skipped")
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": plain.line(title),
            "tests": str(len(cases)),
            **{k: str(v) for k, v in zip(names, counts, strict=True)},
        },
    )
    tags = {"fail": "failure", "invalid": "error", "inconclusive": "skipped"}
    for check in cases:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": plain.line(check.metric), "name": plain.line(check.subject)}
        )
        if check.status in tags:
            ElementTree.SubElement(case, tags[check.status], {"message": plain.line(check.detail)})
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def github(verdict: Verdict, title: str) -> str:
    """A workflow command per check that did not pass, as GitHub shows them beside a change."""
    lines = [
        f"::{_LEVELS[check.status]} title={plain.annotation(f'{title}: {check.metric}', is_property=True)}"
        f"::{plain.annotation(check.detail)}"
        for check in _cases(verdict)
        if check.status in _LEVELS
    ]
    return "".join(f"{line}\n" for line in lines)


def _cases(verdict: Verdict) -> tuple[Check, ...]:
    """All checks; where there is none, one that says so: an empty list reads as a success."""
    why = "; ".join(verdict.reasons)
    return verdict.checks or (Check("gate", "recipe", None, 0.0, ">=", verdict.status, f"gate: recipe: {why}"),)


def _cells(check: Check) -> tuple[str, str, str]:
    return check.metric, check.subject, check.detail.removeprefix(f"{check.metric}: {check.subject}: ")
