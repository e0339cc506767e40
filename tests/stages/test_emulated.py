"""An emulated device from the recipe to the verdict: its AP counts, its latency is told nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgekd.stages import doctor
from tests.measure.test_withheld import numbers
from tests.stages.tiny import edgekd, read

if TYPE_CHECKING:
    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)

REASON = "emulated: its device file says so"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """This machine, as if a program played its processor."""
    path = tmp_path / "played.yaml"
    path.write_text("transport: local\nruntimes: [onnxruntime, openvino]\nthreads: 1\nemulated: true\n")
    return path


def test_profile_says_why_and_no_figure(run: Path, device: Path, tmp_path: Path) -> None:
    given = ["--set", f"devices=[{device}]", "--set", "gate={max_p90_ms: {onnx-fp32@played: 1000}, min_ap: 0}"]
    validated = edgekd("validate", run, *given, "--json")
    assert validated.code == 0, validated.err
    ap = next(row["ap"] for row in validated.json if row["model"] == "onnx-fp32")

    ended = edgekd("profile", run, *given, "--json")
    assert ended.code == 0, ended.err
    assert f"profile onnx-fp32@played: INVALID: {REASON}" in ended.err
    assert [(row["valid"], row["invalid_reasons"]) for row in ended.json] == 2 * [(False, [REASON])]
    told = read(run / "profile/onnx-fp32@played.json")
    assert numbers({key: value for key, value in told.items() if key not in ("environment", "processes")}) == []
    assert told["environment"]["runtime"]["name"] == "onnxruntime"
    assert (run / "profile/onnx-fp32@played.jsonl").stat().st_size > 0, "that it ran is on record"
    assert f"onnx-fp32@played{' ' * 8} INVALID: {REASON}" in edgekd("profile", run, *given).out

    judged = edgekd("gate", run, *given, "--json")
    assert (judged.code, judged.json["status"]) == (4, "invalid")
    checks = {(check["metric"], check["subject"]): check for check in judged.json["checks"]}
    latency = checks["max_p90_ms", "onnx-fp32@played"]
    assert (latency["status"], latency["value"]) == ("invalid", None)
    assert latency["detail"].endswith(f"the profile is invalid ({REASON}); profile it on the hardware")
    accuracy = checks["min_ap", "onnx-fp32@played"]
    assert (accuracy["status"], accuracy["value"]) == ("pass", ap)

    edgekd("report", run, *given)
    shown = next(row for row in read(run / "report.json")["artifacts"] if row["target"] == "onnx-fp32")
    assert (shown["ap"], shown["valid"], numbers(shown["stages_ms"]), shown["histogram"]) == (ap, False, [], _empty())
    assert REASON in (run / "report.md").read_text()

    saved = edgekd("baseline", "save", run, "one", "--store", tmp_path / "store", "--json")
    assert saved.code == 0, saved.err
    kept = next(row for row in saved.json["artifacts"] if row["target"] == "onnx-fp32")
    assert (kept["ap"], kept["p50_ms"], kept["p90_ms"], kept["peak_memory_mb"]) == (ap, None, None, None)


def _empty() -> dict[str, list[float]]:
    return {"edges_ms": [], "counts": []}


def test_compare_refuses(whole: Whole, device: Path, tmp_path: Path) -> None:
    folder = whole.run / "export" / "onnx-fp32"
    ended = edgekd("compare", folder, folder, "--device", device, "--out", tmp_path / "out")
    assert ended.code == 4
    assert ended.problems == [f"device played: {REASON}; latency means nothing there: compare on the hardware"]
    assert not (tmp_path / "out/comparison.json").exists()


def test_doctor_says_so_and_is_content(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "runtime_names", lambda: ["onnxruntime"])
    ended = edgekd("doctor", "--device", device, "--json")
    assert ended.code == 0, ended.err
    (check,) = (check for check in ended.json["checks"] if check["check"] == "processor")
    assert (check["status"], check["found"]) == ("warning", REASON)
    assert check["remedy"] == "AP counts here; measure latency on the hardware"


def test_what_the_agent_finds_counts_without_the_file(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device file that says nothing, on a machine whose programs are not its own."""
    path = tmp_path / "silent.yaml"
    path.write_text("transport: local\nruntimes: [onnxruntime]\n")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text("import platform\nplatform.machine = lambda: 'riscv64'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    folder = whole.run / "export" / "onnx-fp32"
    ended = edgekd("compare", folder, folder, "--device", path, "--out", tmp_path / "out")
    assert ended.code == 4
    assert "emulated: riscv64 programs run by a program of " in json.dumps(ended.problems)
