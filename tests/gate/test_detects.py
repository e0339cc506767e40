"""A model that detects nothing is a check of its own, which only a written `min_ap` replaces."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgekd.gate import detects
from edgekd.gate.facts import ArtifactFacts, Facts
from edgekd.gate.policy import GateConfig
from edgekd.gate.verdict import Verdict, judge

GOOD = ArtifactFacts("onnx-fp32", "local", ap=0.6, p90_ms=8.0)
FACTS = Facts(0.6, 0.6, per_class={"cat": 0.6, "dog": None}, artifacts=[GOOD])
DEAD = replace(FACTS, student_ap=0.0, per_class={"cat": 0.0, "dog": None}, artifacts=[replace(GOOD, ap=0.0)])


def verdict(facts: Facts, **budgets: Any) -> Verdict:
    config = GateConfig(**budgets)
    return judge(config, facts, detects.checks(config, facts))


@pytest.mark.parametrize(
    "budgets", [{"min_gain": -1.0}, {"max_ap_drop": 0.1}, {"max_p90_ms": {"onnx-fp32@local": 9.0}}]
)
def test_without_min_ap_a_dead_student_fails_whatever_else_is_kept(budgets: dict[str, Any]) -> None:
    found = verdict(replace(DEAD, control_ap=0.0), **budgets)
    assert (found.status, found.exit_code) == ("fail", 1)
    assert found.reasons == (
        "detects: student: AP 0: it detects nothing; gate.min_ap, be it 0, judges AP otherwise",
        "detects: onnx-fp32@local: AP 0: it detects nothing; gate.min_ap, be it 0, judges AP otherwise",
    )
    check = found.checks[-1]
    assert (check.metric, check.subject, check.value, check.limit, check.op) == (
        "detects", "onnx-fp32@local", 0.0, 0.0, ">",
    )  # fmt: skip


def test_one_dead_artifact_fails() -> None:
    dead = ArtifactFacts("onnx-int8", "local", ap=0.0)
    found = verdict(replace(FACTS, artifacts=[GOOD, dead]), max_p90_ms={"onnx-fp32@local": 9.0})
    assert [(check.subject, check.status) for check in found.checks if check.metric == "detects"] == [
        ("onnx-int8@local", "fail")
    ]


def test_who_writes_min_ap_0_means_it() -> None:
    assert verdict(DEAD, min_ap=0.0, max_ap_drop=0.1).status == "pass"
    assert verdict(DEAD, min_ap=0.1).reasons[0].startswith("min_ap: student: AP 0, must be >= 0.1")


@pytest.mark.parametrize("ap", [0.0, None])
def test_an_ap_that_is_not_defined_is_inconclusive(ap: float | None) -> None:
    crowd = Facts(ap, ap, per_class={"cat": None, "dog": None}, artifacts=[replace(GOOD, ap=ap)])
    found = verdict(crowd, max_p90_ms={"onnx-fp32@local": 9.0})
    assert (found.status, found.exit_code) == ("inconclusive", 3)
    assert found.reasons == (
        "detects: student: AP is not defined: the validation split has no box to find (crowd boxes do not count); "
        "label objects there",
    )


def test_models_that_detect_something_add_no_check() -> None:
    assert {check.metric for check in verdict(FACTS, max_ap_drop=0.1).checks} == {"max_ap_drop"}
    not_measured = replace(FACTS, artifacts=[replace(GOOD, ap=None, no_ap="no agent there")])
    assert {check.metric for check in verdict(not_measured, min_gain=0.0).checks} == {"min_gain"}


def test_without_budgets_it_makes_no_verdict_either() -> None:
    assert verdict(DEAD).reasons == ("nothing judged: no budget stands under gate:",)
