"""Baselines of the tiny run, the gate against them, and the history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.stages.tiny import edgekd, measured_as, read

if TYPE_CHECKING:
    import pytest

    from tests.stages.whole_run import Whole

pytest_plugins = ("tests.stages.whole_run",)


def test_from_a_run_to_a_verdict_and_a_page(run: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    kept = edgekd("baseline", "save", run, "v1", "--store", store, "--json").json
    assert kept == {"file": str(store / "v1.json"), **read(store / "v1.json")}
    measured = read(run / "validate/onnx-fp32@local.json")
    first = next(entry for entry in kept["artifacts"] if entry["target"] == "onnx-fp32")
    assert (first["ap"], first["per_class"]) == (measured["ap"], measured["per_class"])
    assert first["p50_ms"] == read(run / "profile/onnx-fp32@local.json")["latency_ms"]["end_to_end"]["p50"]

    against = f"gate={{against: {{baseline: v1, store: {store}, max_slowdown: 0.5}}}}"
    ended = edgekd("gate", run, "--set", against, "--json")
    assert ended.code == 0, ended.err
    assert {check["metric"] for check in ended.json["checks"]} == {"against.max_ap_loss", "against.max_slowdown"}

    better = {**kept, "name": "v2", "artifacts": [{**first, "ap": first["ap"] + 0.1}]}
    del better["file"]
    (store / "v2.json").write_text(json.dumps(better))
    ended = edgekd("gate", run, "--set", against.replace("v1", "v2"), "--junit", tmp_path / "j.xml", "--github")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("::error title=gate run%3A against.max_ap_loss::")
    assert "<failure" in (tmp_path / "j.xml").read_text()

    rows = edgekd("history", "--store", store, "--out", tmp_path / "h.html", "--json").json
    assert [(row["artifact"], row["baseline"]) for row in rows] == [
        ("onnx-fp32@local", "v1"), ("onnx-fp32@local", "v2"), ("openvino-fp32@local", "v1"),
    ]  # fmt: skip
    page = (tmp_path / "h.html").read_text()
    assert page.count("<figure") == 2
    assert [(row["p50_ms"], row["size_bytes"], row["environment"]) for row in rows[:1]] == [
        (first["p50_ms"], first["size_bytes"], first["fingerprint"])
    ]
    assert ">v1</text>" in page and ">v2</text>" in page  # on the axis
    assert "onnx-fp32@local" in page
    assert [row["baseline"] for row in edgekd("baseline", "list", "--store", store, "--json").json] == ["v1", "v2"]
    assert "onnx-fp32@local" in edgekd("baseline", "show", "v1", "--store", store).out


def test_figures_that_mean_nothing_are_not_kept(run: Path, tmp_path: Path) -> None:
    reason = "the machine was busy: waited 61% of the time for a core"
    measured_as(run, "profile/onnx-fp32@local.json", valid=False, invalid_reasons=[reason])
    ended = edgekd("baseline", "save", run, "v1", "--store", tmp_path)
    assert ended.code == 4
    assert ended.problems == [
        f"{run}: onnx-fp32@local: the latency is not valid: {reason}",
        f"{run}: no baseline was saved; profile again on a quiet device ('edgekd profile {run} --again'), or keep no"
        " times ('--no-latency')",
    ]
    assert list(tmp_path.glob("*.json")) == []
    ended = edgekd("baseline", "save", run, "v1", "--store", tmp_path, "--no-latency", "--json")
    assert ended.code == 0, ended.err
    assert [(one["p50_ms"], one["spread"]) for one in ended.json["artifacts"]] == [(None, None)] * 2
    assert all(one["ap"] is not None for one in ended.json["artifacts"])


def test_sizes_and_memory(run: Path) -> None:
    budgets = "gate={max_size_mb: {onnx-fp32@local: 0.001}, max_memory_mb: {onnx-fp32@local: 100000}, "
    ended = edgekd("gate", run, "--set", budgets + "max_energy_mj: {onnx-fp32@local: 5}}", "--json")
    found = {check["metric"]: check for check in ended.json["checks"]}
    assert (ended.code, found["max_size_mb"]["status"]) == (1, "fail")
    size = (run / "export/onnx-fp32/model.onnx").stat().st_size / 1e6
    assert found["max_size_mb"]["value"] == size
    assert found["max_memory_mb"]["status"] == "pass"
    assert found["max_energy_mj"]["status"] == "inconclusive", "nothing here measures power"


def test_an_unknown_release_costs_no_training(whole: Whole, tmp_path: Path) -> None:
    ended = edgekd("run", whole.recipe, "--out", tmp_path / "new", "--set", "gate.against={baseline: v9}")
    assert ended.code == 2
    assert ended.problems[-1].endswith("gate.against: baselines: unknown baseline 'v9' (known: none)")
    assert not (tmp_path / "new/teacher").exists()


def test_an_empty_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = edgekd("history", "--out", "h.html")
    assert ended.problems == ["baselines: no baselines to draw; keep one with 'edgekd baseline save RUN NAME'"]
    assert edgekd("baseline", "save", "nothing", "v1").code == 2
