"""Verdicts for CI systems: parsed back, and with characters that each form treats as its own."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from edgekd.gate.ci_output import github, junit, markdown
from edgekd.gate.non_inferiority import judge
from edgekd.gate.verdict import Check, Verdict, conclude
from edgekd.measure.bootstrap import Interval


def check(metric: str, subject: str, status: str, why: str) -> Check:
    return Check(metric, subject, 0.1, 0.2, ">=", status, f"{metric}: {subject}: {why}")  # type: ignore[arg-type]


CHECKS = (
    check("min_ap", "student", "pass", "AP 0.3, must be >= 0.2"),
    check("max_p90_ms", "a|b@local", "fail", 'p90 9 ms <"broken"> & 100 %,\nslow'),
    check("min_gain", "student", "inconclusive", "no control"),
    check("max_p90_ms", "x@pi", "invalid", "throttled"),
)
VERDICT = Verdict("fail", ("...",), CHECKS)


def test_markdown_is_one_table_worst_first() -> None:
    lines = markdown(VERDICT, "quickstart").splitlines()
    assert lines[0] == "### ❌ quickstart: fail"
    assert lines[4:] == [
        '| ❌ fail | max\\_p90\\_ms | a\\|b@local | p90 9 ms &lt;"broken"&gt; &amp; 100 %, slow |',
        "| ⚠️ invalid | max\\_p90\\_ms | x@pi | throttled |",
        "| ❔ inconclusive | min\\_gain | student | no control |",
        "| ✅ pass | min\\_ap | student | AP 0.3, must be &gt;= 0.2 |",
    ]


def test_nothing_judged_is_no_success_in_any_form() -> None:
    nothing = conclude(())
    assert markdown(nothing, "x").splitlines() == [
        "### ❔ x: inconclusive", "", "| status | budget | of | measured |", "| --- | --- | --- | --- |",
        "| ❔ inconclusive | gate | recipe | nothing judged: no budget stands under gate: |",
    ]  # fmt: skip
    suite = ElementTree.fromstring(junit(nothing, "x").partition("\n")[2])
    assert (suite.get("tests"), suite.get("skipped"), [child.tag for child in suite[0]]) == ("1", "1", ["skipped"])
    said = "::warning title=x%3A gate::gate: recipe: nothing judged: no budget stands under gate:\n"
    assert github(nothing, "x") == said


def test_junit_parses_back() -> None:
    suite = ElementTree.fromstring(junit(VERDICT, "quick & start").partition("\n")[2])
    assert suite.attrib == {"name": "quick & start", "tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    cases = {(case.get("classname"), case.get("name")): [child.tag for child in case] for case in suite}
    assert cases == {
        ("min_ap", "student"): [], ("max_p90_ms", "a|b@local"): ["failure"],
        ("min_gain", "student"): ["skipped"], ("max_p90_ms", "x@pi"): ["error"],
    }  # fmt: skip
    assert suite[1][0].get("message", "").startswith('max_p90_ms: a|b@local: p90 9 ms <"broken"> & 100 %,')


def test_annotations_escape_what_github_reads() -> None:
    assert github(VERDICT, "run 1:2").splitlines() == [
        '::error title=run 1%3A2%3A max_p90_ms::max_p90_ms: a|b@local: p90 9 ms <"broken"> & 100 %25,\\nslow',
        "::warning title=run 1%3A2%3A min_gain::min_gain: student: no control",
        "::error title=run 1%3A2%3A max_p90_ms::max_p90_ms: x@pi: throttled",
    ]


@pytest.mark.parametrize(
    ("low", "estimate", "high", "status", "text"),
    [
        (-0.004, 0.0, 0.004, "pass", "AP difference +0.0000 [-0.0040, +0.0040]: loses at most the margin of 0.005"),
        (-0.03, -0.02, -0.01, "fail", "AP difference -0.0200 [-0.0300, -0.0100]: loses more than the margin of 0.005"),
        (-0.006, -0.002, 0.002, "inconclusive", ": the margin of 0.005 lies inside"),
        (-0.02, 0.0, 0.02, "inconclusive", "the interval is 4.0 margins wide to each side, take more images"),
    ],
)
def test_non_inferiority(low: float, estimate: float, high: float, status: str, text: str) -> None:
    found, line = judge(Interval(low, high, estimate, 0.95), 0.005)
    assert found == status
    assert line.endswith(text)
