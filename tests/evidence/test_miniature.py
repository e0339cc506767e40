"""The whole list in small, so that nothing is tried for the first time on somebody's board."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgekd.evidence import document, private


@pytest.mark.slow
def test_every_experiment_runs_in_miniature_on_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "here.json"
    command = [sys.executable, "-m", "edgekd", "evidence", "--out", str(path), "--miniature", "--minutes", "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {entry.experiment: entry for entry in document.read(path).entries}
    told = {name: entry.reason for name, entry in found.items() if entry.status not in ("done", "lacking")}
    assert told == {}
    assert found["bit-exact baseline"].figures["differs_from_the_engine"] == []
    assert found["bit-exact baseline"].figures["distilled_differs_from_itself"] == []
    assert found["kill and resume"].figures == {**found["kill and resume"].figures, "kills": 1, "differs": []}
    assert found["target onnx-fp16"].figures["accuracy"]["same_model"]["passed"] is True
    assert {row["method"] for row in found["gain"].figures["rows"]} == {"control", "quickstart", "distill_model"}
    assert found["train step fp32"].figures["median_ms"]["plain"] > 0
    rows = {shown.row for entry in found.values() for shown in entry.shows}
    assert {
        "gpu tests",
        "bit-exact baseline",
        "kill and resume",
        "two ranks",
        "target onnx-fp16",
        "device tests",
    } <= rows
    assert list(private.betrayed(json.loads(path.read_text())["entries"])) == []
    assert str(tmp_path) not in path.read_text()
