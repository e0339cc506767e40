"""Budgets that are missed by less than the processes differ, and what has to be said of a figure of time."""

from __future__ import annotations

from typing import Any

import pytest

from edgekd.gate.ci_output import github, markdown
from edgekd.gate.facts import ArtifactFacts, Facts
from edgekd.gate.policy import GateConfig
from edgekd.gate.verdict import Check, Verdict, judge
from tests.gate.test_verdict import ONNX

NOTE = "the processes' medians differ by 22.0% (8 to 9.76 ms); differences below that mean nothing here"


def verdict(budgets: dict[str, Any], **changes: Any) -> Verdict:
    artifact = ArtifactFacts(**{**vars(ONNX), **changes})
    return judge(GateConfig(**budgets), Facts(0.6, None, {}, [artifact]))


def only(found: Verdict) -> Check:
    (check,) = found.checks
    return check


@pytest.mark.parametrize(
    ("limit", "status"), [(8.0, "pass"), (7.9, "inconclusive"), (6.6, "inconclusive"), (6.5, "fail")]
)
def test_a_latency_that_misses_by_less_than_its_spread_is_inconclusive(limit: float, status: str) -> None:
    found = verdict({"max_p90_ms": {"onnx-fp32@local": limit}}, spread={"p90_ms": 0.22})  # 8 / 1.22 is 6.56
    assert only(found).status == status
    assert found.exit_code == {"pass": 0, "inconclusive": 3, "fail": 1}[status]


def test_it_says_so() -> None:
    found = verdict({"max_p90_ms": {"onnx-fp32@local": 7.5}}, spread={"p90_ms": 0.22}, notes=(NOTE,))
    assert only(found).detail == (
        "max_p90_ms: onnx-fp32@local: p90 8 ms, must be <= 7.5 ms: missed by 0.5 ms, less than the processes differ"
        f" (22.0%): measure longer, or on a quieter device (note: {NOTE})"
    )


@pytest.mark.parametrize(("spread", "status"), [(None, "fail"), (0.0, "fail"), (0.05, "fail"), (0.2, "inconclusive")])
def test_throughput_and_energy_have_a_spread_too(spread: float | None, status: str) -> None:
    rate = verdict(
        {"min_images_per_second": {"onnx-fp32@local": 110}},
        images_per_second=100.0, spread={"images_per_second": spread},
    )  # fmt: skip
    energy = verdict({"max_energy_mj": {"onnx-fp32@local": 10}}, energy_mj=11.0, spread={"energy_mj": spread})
    assert (only(rate).status, only(energy).status) == (status, status)


def test_accuracy_and_sizes_have_none() -> None:
    budgets = {"min_ap": 0.61, "max_size_mb": {"onnx-fp32@local": 3}, "max_memory_mb": {"onnx-fp32@local": 99}}
    found = verdict(budgets, size_mb=3.1, memory_mb=100.0, spread={"p90_ms": 9.0}, notes=(NOTE,))
    assert {check.status for check in found.checks} == {"fail"}
    assert not any(NOTE in check.detail for check in found.checks)


def test_an_inference_alone_that_misses_by_less_than_its_spread() -> None:
    given = {"inference_by": "trtexec", "spread": {"p90_ms": 0.22}}
    assert only(verdict({"max_p90_ms": {"onnx-fp32@local": 7.5}}, **given)).status == "inconclusive"
    assert only(verdict({"max_p90_ms": {"onnx-fp32@local": 5}}, **given)).status == "fail"


def test_notes_go_where_the_figure_goes() -> None:
    budgets = {"max_p90_ms": {"onnx-fp32@local": 9}, "min_images_per_second": {"onnx-fp32@local": 200}}
    found = verdict(budgets, notes=(NOTE,), images_per_second=100.0, load_notes=("a stream starved",))
    assert [check.status for check in found.checks] == ["pass", "fail"]
    assert "differences below that mean nothing here" in markdown(found, "gate run").splitlines()[-1]
    assert "(note: a stream starved)" in github(found, "gate run")
    assert "(note: a stream starved)" in found.reasons[0]


def test_what_was_not_measured_has_no_notes() -> None:
    found = verdict(
        {"max_p90_ms": {"onnx-fp32@local": 9}}, latency_valid=False, invalid_reasons=("busy",), notes=("x",)
    )
    assert only(found).detail.endswith("the profile is invalid (busy); profile it again on a quiet device")
