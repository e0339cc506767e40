"""Comparing two artifacts of the tiny run: verdicts, exit codes, files, and what is kept of a broken try."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors import families
from edgekd.detectors.contract import Asked
from edgekd.devices import run_compare
from edgekd.errors import EnvironmentFault
from edgekd.export.contract import Source
from edgekd.export.targets import load_target, run_steps
from edgekd.stages import compare as stage
from tests.stages.tiny import Ended, edgekd, read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)


class Agent:
    """Stands in for the agent: a candidate that takes `ratio` times as long, processes that differ by 0.1 %."""

    def __init__(self, ratio: float, fails_at: int | None = None) -> None:
        self.ratio, self.fails_at, self.calls = ratio, fails_at, 0

    def __call__(self, *_: Any, seed: int, rounds: run_compare.Rounds, **__: Any) -> list[dict[str, Any]]:
        self.calls += 1
        if self.calls == self.fails_at:
            raise EnvironmentFault("device local: agent compare: killed by SIGKILL")
        draw = np.random.default_rng(seed)
        times = {"reference": 1.0, "copy": math.exp(draw.normal(0, 0.001)), "candidate": self.ratio}
        times["candidate"] *= math.exp(draw.normal(0, 0.001))
        return [
            {"event": "block", "variant": name, "round": number, "end_to_end_ns": [int(1e9 * factor)] * 5}
            for number in range(rounds.least)
            for name, factor in times.items()
        ]


def compare(whole: Whole, out: Path, *options: object) -> Ended:
    folders = [whole.run / "export" / name for name in ("onnx-fp32", "openvino-fp32")]
    return edgekd("compare", *folders, "--out", out, "--json", *options)


@pytest.mark.parametrize(("ratio", "code", "status"), [(1.0, 0, "pass"), (1.05, 1, "fail"), (1.01, 3, "inconclusive")])
def test_the_verdict_is_the_exit_code(
    ratio: float, code: int, status: str, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(ratio)
    monkeypatch.setattr(run_compare, "one_process", agent)
    ended = compare(
        whole, tmp_path / "out", "--no-accuracy", "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "m"
    )
    assert ended.code == code, ended.err
    (check,) = ended.json["checks"]
    assert (check["metric"], check["subject"], check["status"]) == ("max_slowdown", "openvino-fp32@local", status)
    assert check["value"] == pytest.approx(ratio - 1, abs=0.002)
    assert agent.calls == (36 if status == "inconclusive" else 6)
    record = read(tmp_path / "out/comparison.json")
    assert record["verdict"] == ended.json
    assert record["latency"]["candidate"]["processes"] == agent.calls
    assert f": {status}" in (tmp_path / "m").read_text().splitlines()[0]
    assert 'tests="1"' in (tmp_path / "j.xml").read_text()


def test_a_broken_try_goes_on(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_compare, "one_process", Agent(1.05, fails_at=5))
    ended = compare(whole, tmp_path, "--no-accuracy")
    assert ended.code == 4
    assert ended.err.splitlines()[-1] == "edgekd: error: device local: agent compare: killed by SIGKILL"
    assert not (tmp_path / "comparison.json").exists()
    again = Agent(1.05)
    monkeypatch.setattr(run_compare, "one_process", again)
    assert compare(whole, tmp_path, "--no-accuracy").code == 1
    assert again.calls == 2, "four of the six were there"
    other = Agent(1.0)
    monkeypatch.setattr(run_compare, "one_process", other)
    folders = [whole.run / "export" / name for name in ("openvino-fp32", "onnx-fp32")]
    assert edgekd("compare", *folders, "--out", tmp_path, "--no-accuracy").code == 0
    assert other.calls == 6, "another comparison shares nothing with it"


def test_a_device_that_was_slowed_down(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(1.05)

    def throttled(*given: Any, **named: Any) -> list[dict[str, Any]]:
        told = {"event": "telemetry", "telemetry": {"pi_throttled": {"bits": 0b100}}}
        return [*agent(*given, **named), told]

    monkeypatch.setattr(run_compare, "one_process", throttled)
    ended = compare(whole, tmp_path, "--no-accuracy")
    (check,) = ended.json["checks"]
    assert (ended.code, check["status"]) == (4, "invalid")
    assert "throttled" in check["detail"]


@pytest.mark.parametrize(("ratio", "code", "status"), [(1.0, 0, "pass"), (1.05, 1, "fail"), (1.01, 4, "invalid")])
def test_on_a_busy_machine_what_is_decided_stands_and_the_rest_is_invalid(
    ratio: float, code: int, status: str, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(ratio)
    told = {"event": "contention", "wall_ns": 100, "ran_ns": 39, "waited_ns": 61, "others_ns": 160, "cores": 2}
    monkeypatch.setattr(run_compare, "one_process", lambda *given, **named: [*agent(*given, **named), told])
    ended = compare(whole, tmp_path, "--no-accuracy", "--max-processes", "6")
    (check,) = ended.json["checks"]
    assert (ended.code, check["status"]) == (code, status)
    assert "the machine was busy: waited 61% of the time for a core; others used 1.6 of 2 cores" in check["detail"]


def test_accuracy_of_the_same_model_in_two_runtimes(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_compare, "one_process", Agent(1.0))
    ended = compare(whole, tmp_path)
    checks = {check["metric"]: check for check in ended.json["checks"]}
    assert checks["max_ap_loss"]["value"] == pytest.approx(0, abs=1e-3)
    assert read(tmp_path / "comparison.json")["accuracy"]["level"] == 0.99


@pytest.fixture(scope="module")
def rtmdet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RTMDet for the images of the tiny run, exported apart from it."""
    torch.manual_seed(0)
    detector = families.open_detector(None, Asked("rtmdet-p", None, CLASS_NAMES, 3, "student"))
    source = Source(detector.export_module(None), "dense", CLASS_NAMES, 3, (64, 64), 32, sha256="5eed" * 16)
    folder = tmp_path_factory.mktemp("rtmdet") / "export" / "onnx-fp32"
    return run_steps(source, load_target("onnx-fp32", {"name": "rtmdet"}, "test"), folder).folder


def test_a_yolo_against_an_rtmdet(rtmdet: Path, whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other families, on the images of the first one's run; an untrained one loses whatever the first has."""
    agent = Agent(0.9)
    monkeypatch.setattr(run_compare, "one_process", agent)
    yolo = whole.run / "export" / "onnx-fp32"
    ended = edgekd("compare", yolo, rtmdet, "--images", whole.run, "--out", tmp_path / "out", "--json")
    checks = {check["metric"]: check for check in ended.json["checks"]}
    assert checks["max_slowdown"]["status"] == "pass"
    assert checks["max_slowdown"]["value"] == pytest.approx(-0.1, abs=0.002)
    lost = read(whole.run / "validate/onnx-fp32@local.json")["ap"]
    assert checks["max_ap_loss"]["value"] == pytest.approx(lost, abs=1e-3)
    record = read(tmp_path / "out/comparison.json")
    assert [record[side]["target"] for side in ("reference", "candidate")] == ["onnx-fp32", "rtmdet"]


def test_two_that_detect_nothing_are_no_pass(whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_compare, "one_process", Agent(1.0))
    monkeypatch.setattr(stage, "_detections", lambda *_: {})
    ended = compare(whole, tmp_path)
    found = {check["metric"]: check for check in ended.json["checks"]}["max_ap_loss"]
    assert (ended.code, found["status"], found["value"]) == (3, "inconclusive", 0.0)
    assert found["detail"].endswith("; but its AP is 0: it detects nothing, and that is no pass")


def test_what_cannot_be_compared(whole: Whole, tmp_path: Path) -> None:
    good = whole.run / "export/onnx-fp32"
    bare = tmp_path / "bare" / "export" / "t"
    bare.mkdir(parents=True)
    for path in good.iterdir():
        (bare / path.name).write_bytes(path.read_bytes())
    ended = edgekd("compare", good, tmp_path / "none", "--out", tmp_path / "out")
    assert (ended.code, len(ended.problems)) == (2, 1)
    assert "no artifact here (edgekd.json is missing)" in ended.problems[0]
    ended = edgekd("compare", good, bare, "--out", tmp_path / "out")
    assert ended.problems == [f"{bare}: no run with validation images around it; name one with --images RUN"]
    (bare / "model.onnx").write_bytes(b"changed")
    ended = edgekd("compare", good, bare, "--out", tmp_path / "out", "--images", whole.run)
    assert "its sha256 is not the one in edgekd.json" in ended.problems[0]
