"""What speaks against the code: read off the figures of an experiment, those of a part of it, too, in one line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from edgekd.atomic import read_json
from edgekd.evidence.contract import Setting, Work, kinds
from edgekd.evidence.experiments import marked_tests
from edgekd.evidence.scale import FULL, MINIATURE
from tests.evidence.made import MACHINE

PASSED = {"test": "a::one", "outcome": "passed", "reason": None}
FAILED = {"test": "a::two", "outcome": "failed", "reason": "no kernel"}
SKIPPED = {"test": "a::three", "outcome": "skipped", "reason": "no CUDA"}


def outcomes(*cases: dict[str, Any], exit_code: int = 0, **more: Any) -> dict[str, Any]:
    counts = {kind: sum(case["outcome"] == kind for case in cases) for kind in ("passed", "failed", "skipped")}
    return {"exit_code": exit_code, **counts, "tests": list(cases), **more}


def same(passed: bool | None) -> dict[str, Any]:
    return {"accuracy": {"ap": 0.1, "same_model": {"share": 0.125, "least": 0.9, "passed": passed}}}


@pytest.mark.parametrize(
    ("kind", "figures", "told"),
    [
        ("exact", {"differs_from_itself": [], "differs_from_the_engine": []}, None),
        ("exact", {"differs_from_itself": ["a"], "differs_from_the_engine": ["a", "b"],
                   "distilled_differs_from_itself": ["c"]},
         "2 tensors differ from the engine's own, 1 tensors differ between two trainings, 1 tensors differ between two "
         "distillations"),
        ("resume", {"kills": 1, "differs": []}, None),
        ("resume", {"kills": 0, "differs": []}, "it was over before it could be killed"),
        ("resume", {"kills": 1, "differs": ["student.pt", "terms.csv"]},
         "not the files of one that nobody disturbed: student.pt, terms.csv"),
        ("resume", {"kills": 1, "differs": ["student.pt"], "undisturbed_differs_from_itself": ["student.pt"]},
         "not the files of one that nobody disturbed: student.pt; two that nobody disturbed differ, too"),
        ("marked tests", outcomes(PASSED, SKIPPED), None),
        ("marked tests", outcomes(PASSED, FAILED, exit_code=1), "1 of 2 tests failed: a::two (no kernel)"),
        ("marked tests", outcomes(SKIPPED), "no test passed, 1 were skipped: a::three (no CUDA)"),
        ("marked tests", outcomes(exit_code=5), "no test passed, 0 were skipped"),
        ("marked tests", outcomes(PASSED, exit_code=3), "pytest ended with exit code 3"),
        ("marked tests", {"collected": {"exit_code": 0, "tests": 12}, **outcomes(PASSED)}, None),
        ("marked tests", {"collected": {"exit_code": 2, "tests": 12}, **outcomes(PASSED)},
         "12 tests were collected (exit code 2)"),
        ("marked tests", {"collected": {"exit_code": 0, "tests": 0}}, "0 tests were collected (exit code 0)"),
        ("gain", {"rows": [{"method": "control", "seed": 1, "ap": 0.5}]}, None),
        ("gain", {"rows": [{"method": "control", "seed": 1, "ap": 0.5},
                           {"method": "quickstart", "seed": 1, "error": "ValueError: no"}]},
         "1 of 2 trainings failed: quickstart, seed 1: ValueError: no"),
        ("power", {"has_sensors": False, "card": {"readings": 0}}, None),
        ("power", {"has_sensors": True, "card": {"readings": 9}}, None),
        ("power", {"has_sensors": True, "card": {"readings": 0}}, "nvidia-smi is there and gave no reading"),
        ("target", same(True), None),
        ("target", same(None), None),  # a student that detects nothing
        ("target", {"accuracy": {"same_model": None}}, None),  # of a size, or an NMS, that is not the student's
        ("target", same(False),
         "another model there: 12.5% of the torch student's detections, at least 90% are asked for"),
    ],
)  # fmt: skip
def test_a_negative_result_is_told(kind: str, figures: dict[str, Any], told: str | None) -> None:
    assert kinds()[kind].fault(figures) == told


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_without_figures_nothing_speaks_against_it(kind: str) -> None:
    assert kinds()[kind].fault({}) is None


def test_of_a_file_that_cannot_be_collected_the_error_is_told() -> None:
    case = ET.fromstring(
        '<testcase classname="tests.export.test_x" name=""><error message="collection failure">tests/x.py:3: in m\n'
        "    import onnxruntime\nE   ModuleNotFoundError: No module named 'onnxruntime'</error></testcase>"
    )
    found = marked_tests._case(case)
    assert (found["outcome"], found["reason"]) == ("failed", "ModuleNotFoundError: No module named 'onnxruntime'")


def test_the_miniature_collects_what_needs_a_gpu() -> None:
    assert (*MINIATURE.collected,) == FULL.tests
    assert FULL.collected == ()


def test_what_is_collected_is_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[str, ...]] = []

    def run(*arguments: str, device: str = "", stdout: int | None = None) -> Any:
        calls.append(arguments)
        if "--collect-only" in arguments:
            return marked_tests.subprocess.CompletedProcess([], 2, "a.py::one\na.py::two[b]\n\n2/9 tests collected\n")
        report = next(one for one in arguments if one.startswith("--junitxml=")).partition("=")[2]
        case = '<testcase classname="tests.a" name="x" time="0"/>'
        Path(report).write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
        return marked_tests.subprocess.CompletedProcess([], 0)

    monkeypatch.setattr(marked_tests, "_pytest", run)
    work = Work(Setting(MACHINE, "local", MINIATURE), tmp_path, {"tests": "gpu tests"}, tmp_path / "figures.json")
    marked_tests.run(work)
    assert calls[0] == ("--collect-only", "-m", "gpu", "tests")
    assert work.figures["collected"] == {"exit_code": 2, "tests": 2}
    assert read_json(tmp_path / "figures.json")["shows"] == []


def test_the_tests_of_a_device_are_pointed_at_the_one_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []

    def run(command: list[str], *, env: dict[str, str], **more: Any) -> Any:
        told.append({"command": command[-3:], "device": env["EDGEKD_TEST_DEVICE"]})
        report = next(one for one in command if one.startswith("--junitxml=")).partition("=")[2]
        case = '<testcase classname="tests.devices.test_given" name="x" time="0"/>'
        Path(report).write_text(f"<testsuites><testsuite>{case}</testsuite></testsuites>")
        return marked_tests.subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(marked_tests.subprocess, "run", run)
    board = {**MACHINE, "device": {**MACHINE["device"], "name": "raspberry-pi-5", "transport": "ssh"}}
    setting = Setting(board, "raspberry-pi-5", FULL)
    experiment = next(one for one in marked_tests.offers(setting) if one.name == "device tests")
    assert experiment.lacking is None
    work = Work(setting, tmp_path, experiment.arguments, tmp_path / "figures.json")
    marked_tests.run(work)
    assert told == [{"command": ["-m", "device", "tests/devices/test_given.py"], "device": "raspberry-pi-5"}]
    (row,) = read_json(tmp_path / "figures.json")["shows"]
    assert row["row"] == "device tests"
    assert {"devices/ssh*.py", "devices/raspberry-pi-5.yaml", "testing/devices.py"} <= set(row["sources"])
