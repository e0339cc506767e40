"""The budget of images per second: of the fastest valid load, and never passed over."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgekd.gate.facts import ArtifactFacts, Facts
from edgekd.gate.policy import GateConfig, check_names
from edgekd.gate.verdict import Check, judge

CONFIG = GateConfig(min_images_per_second={"onnx-fp32@local": 100.0})


def check(**measured: object) -> Check:
    artifact = ArtifactFacts("onnx-fp32", "local", **measured)  # type: ignore[arg-type]
    (found,) = judge(CONFIG, Facts(None, None, {}, (artifact,))).checks
    return found


@pytest.mark.parametrize(("rate", "status"), [(100.0, "pass"), (250.0, "pass"), (99.9, "fail")])
def test_a_rate_is_compared(rate: float, status: str) -> None:
    found = check(images_per_second=rate)
    assert (found.status, found.value, found.limit, found.op) == (status, rate, 100.0, ">=")
    assert f"throughput {rate:.4g} images/s, must be >= 100 images/s" in found.detail


def test_an_invalid_latency_of_the_single_stream_does_not_matter() -> None:
    assert check(images_per_second=120.0, latency_valid=False, invalid_reasons=("too short",)).status == "pass"


def test_nothing_measured_is_inconclusive() -> None:
    found = check()
    assert found.status == "inconclusive"
    assert found.detail.endswith("no throughput was measured; name loads in profile.throughput, and run edgekd profile")
    assert judge(CONFIG, Facts(None, None, {}, ())).status == "inconclusive"


def test_no_valid_load_is_invalid_with_the_reasons() -> None:
    found = check(load_problems=("process 1: too hot", "too short"))
    assert (found.status, found.value) == ("invalid", None)
    assert found.detail.endswith(
        "no load was measured validly (process 1: too hot; too short); profile it again on a quiet device"
    )
    assert check(load_problems=("emulated: said so",)).detail.endswith("profile it on the hardware")
    assert check(images_per_second=120.0, load_problems=("too short",)).status == "pass"  # of another load


def test_names_are_checked() -> None:
    with pytest.raises(ValidationError, match="'onnx-fp32' does not name an artifact on a device"):
        GateConfig(min_images_per_second={"onnx-fp32": 1.0})
    (problem,) = check_names(CONFIG, ["openvino-fp32"], ["local"], [], "x.yaml: gate")
    assert problem.startswith("x.yaml: gate.min_images_per_second.onnx-fp32@local: unknown target 'onnx-fp32'")
