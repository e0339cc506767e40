"""Verdicts: each budget met, missed, unmeasured and invalid; the worst check decides."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgekd.gate.facts import ArtifactFacts, Facts
from edgekd.gate.policy import GateConfig
from edgekd.gate.verdict import judge

ONNX = ArtifactFacts("onnx-fp32", "local", ap=0.60, p90_ms=8.0)
FACTS = Facts(student_ap=0.60, control_ap=0.55, per_class={"cat": 0.7, "dog": None}, artifacts=[ONNX])


def outcome(facts=FACTS, **budgets):
    verdict = judge(GateConfig(**budgets), facts)
    return verdict.status, verdict.exit_code, list(verdict.reasons)


def with_artifact(**changes):
    return replace(FACTS, artifacts=[replace(ONNX, **changes)])


def test_without_a_budget_nothing_is_judged_and_that_is_no_pass():
    assert outcome() == ("inconclusive", 3, ["nothing judged: no budget stands under gate:"])


def test_all_met():
    budgets = {
        "min_ap": 0.6,
        "max_p90_ms": {"onnx-fp32@local": 8.0},
        "max_ap_drop": 0.0,
        "min_gain": 0.05,
        "min_ap_per_class": {"cat": 0.7},
    }
    assert outcome(**budgets) == ("pass", 0, [])


@pytest.mark.parametrize(
    ("facts", "budgets", "reason"),
    [
        (FACTS, {"min_gain": 0.06}, "min_gain: student: AP above the control's 0.05, must be >= 0.06: missed by 0.01"),
        (
            FACTS,
            {"max_p90_ms": {"onnx-fp32@local": 7.5}},
            "max_p90_ms: onnx-fp32@local: p90 8 ms, must be <= 7.5 ms: missed by 0.5 ms",
        ),
        (
            with_artifact(ap=0.58),
            {"max_ap_drop": 0.01},
            "max_ap_drop: onnx-fp32@local: AP below the student's 0.02, must be <= 0.01: missed by 0.01",
        ),
        (
            with_artifact(ap=0.58),
            {"min_ap": 0.6},
            "min_ap: onnx-fp32@local: AP 0.58, must be >= 0.6: missed by 0.02",
        ),
        (
            FACTS,
            {"min_ap_per_class": {"cat": 0.75}},
            "min_ap_per_class: student: cat: AP 0.7, must be >= 0.75: missed by 0.05",
        ),
        (
            with_artifact(per_class={"cat": 0.4}),
            {"min_ap_per_class": {"cat": 0.5}},
            "min_ap_per_class: onnx-fp32@local: cat: AP 0.4, must be >= 0.5: missed by 0.1",
        ),
    ],
)
def test_a_missed_budget_fails_and_is_named(facts, budgets, reason):
    assert outcome(facts, **budgets) == ("fail", 1, [reason])


@pytest.mark.parametrize(
    ("facts", "budgets", "reason"),
    [
        (
            replace(FACTS, control_ap=None),
            {"min_gain": 0.0},
            "min_gain: student: there is no control to compare with; set control: true",
        ),
        (
            replace(FACTS, student_ap=None),
            {"min_gain": 0.0},
            "min_gain: student: the student was not validated; run edgekd validate",
        ),
        (
            with_artifact(p90_ms=None),
            {"max_p90_ms": {"onnx-fp32@local": 9}},
            "max_p90_ms: onnx-fp32@local: no p90 was measured, or of too few samples (it needs at least 64); "
            "run edgekd profile",
        ),
        (
            FACTS,
            {"max_p90_ms": {"onnx-fp32@jetson": 9}},
            "max_p90_ms: onnx-fp32@jetson: no p90 was measured, or of too few samples (it needs at least 64); "
            "run edgekd profile",
        ),
        (
            with_artifact(ap=None),
            {"min_ap": 0.1},
            "min_ap: onnx-fp32@local: it was not validated; run edgekd validate",
        ),
        (
            with_artifact(ap=None),
            {"max_ap_drop": 0.1},
            "max_ap_drop: onnx-fp32@local: the student or the artifact was not validated; run edgekd validate",
        ),
        (
            replace(FACTS, artifacts=[]),
            {"max_ap_drop": 0.1},
            "max_ap_drop: artifacts: nothing was exported; name targets in export:",
        ),
        (
            FACTS,
            {"min_ap_per_class": {"dog": 0.1}},
            "min_ap_per_class: student: dog: it was not validated, or the split has no ground truth of the class",
        ),
    ],
)
def test_what_was_not_measured_is_inconclusive(facts, budgets, reason):
    assert outcome(facts, **budgets) == ("inconclusive", 3, [reason])


def test_an_invalid_profile_is_neither_met_nor_missed():
    facts = with_artifact(p90_ms=99.0, latency_valid=False, invalid_reasons=("too short: 3 of 128", "throttled"))
    assert outcome(facts, max_p90_ms={"onnx-fp32@local": 9}) == (
        "invalid",
        4,
        [
            "max_p90_ms: onnx-fp32@local: the profile is invalid (too short: 3 of 128; throttled); "
            "profile it again on a quiet device"
        ],
    )


@pytest.mark.parametrize("metric", ["max_p90_ms", "max_memory_mb", "max_energy_mj"])
def test_no_figure_of_an_invalid_profile_is_in_the_verdict(metric):
    facts = with_artifact(
        p90_ms=7.75, memory_mb=7.75, energy_mj=7.75, latency_valid=False, invalid_reasons=("emulated: x",)
    )
    (check,) = judge(GateConfig(**{metric: {"onnx-fp32@local": 9}}), facts).checks
    assert (check.status, check.value) == ("invalid", None)
    assert check.detail.endswith("the profile is invalid (emulated: x); profile it on the hardware")


def test_an_invalid_profile_without_a_budget_is_no_check():
    assert outcome(with_artifact(latency_valid=False), min_ap=0.5) == ("pass", 0, [])


def test_the_worst_check_decides_and_comes_first():
    facts = replace(with_artifact(latency_valid=False), control_ap=None)
    budgets = {"min_gain": 0.0}
    assert outcome(facts, **budgets)[0] == "inconclusive"
    budgets["max_p90_ms"] = {"onnx-fp32@local": 9.0}
    assert outcome(facts, **budgets)[0] == "invalid"
    budgets["min_ap_per_class"] = {"cat": 0.9}
    status, code, reasons = outcome(facts, **budgets)
    assert (status, code) == ("fail", 1)
    assert [reason.split(":")[0] for reason in reasons] == ["min_ap_per_class", "max_p90_ms", "min_gain"]


def test_a_budget_met_exactly_is_met_in_spite_of_rounding():
    assert 0.61 - 0.60 > 0.01  # as floating-point numbers subtract
    facts = replace(FACTS, student_ap=0.61)
    assert outcome(facts, max_ap_drop=0.01)[0] == "pass"
    assert outcome(facts, max_ap_drop=0.0099)[0] == "fail"


def test_json_form():
    verdict = judge(GateConfig(min_ap=0.5, max_p90_ms={"onnx-fp32@local": 7.5}), FACTS)
    content = verdict.as_json()
    assert json.loads(json.dumps(content)) == content
    assert (content["schema"], content["status"], len(content["reasons"])) == ("edgekd.verdict/2", "fail", 1)
    assert [(check["metric"], check["subject"], check["status"]) for check in content["checks"]] == [
        ("min_ap", "student", "pass"),
        ("min_ap", "onnx-fp32@local", "pass"),
        ("max_p90_ms", "onnx-fp32@local", "fail"),
    ]
    assert content["checks"][2] == {
        "metric": "max_p90_ms",
        "subject": "onnx-fp32@local",
        "value": 8.0,
        "limit": 7.5,
        "op": "<=",
        "status": "fail",
        "detail": "max_p90_ms: onnx-fp32@local: p90 8 ms, must be <= 7.5 ms: missed by 0.5 ms",
    }


def test_of_several_seeds_the_lower_end_of_the_interval_is_judged() -> None:
    """A mean of 0.03 is not enough where the interval reaches down to 0.004."""
    gain = {"mean": 0.03, "low": 0.004, "high": 0.056, "level": 0.95, "differences": [0.02, 0.03, 0.04]}
    (check,) = judge(GateConfig(min_gain=0.01), replace(FACTS, gain=gain)).checks
    assert (check.status, check.value) == ("fail", 0.004)
    assert check.detail == (
        "min_gain: student: AP above the control's, lower end of its 95 % interval over 3 seeds 0.004, "
        "must be >= 0.01: missed by 0.006"
    )
    alone = {**gain, "low": None, "high": None, "differences": [0.05]}
    (check,) = judge(GateConfig(min_gain=0.01), replace(FACTS, gain=alone)).checks
    assert check.status == "pass" and check.value == pytest.approx(0.05)
