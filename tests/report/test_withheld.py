"""A latency that is not valid is named with its reason; none of its figures is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekd.measure.withheld import unless_emulated
from edgekd.report.render import render
from tests.measure.test_withheld import numbers
from tests.report.make_run import make_run

MARKS = {7700.25, 7701.25, 7702.25, 77.0325, 7704.25, 7705.25, 7710.25, 7711, 7720.25, 7721.25, 7722}
NAME = "profile/onnx-fp32@local.json"


def shown(folder: Path, **changes: object) -> dict[str, str]:
    """Texts of the report after changes of one profile that marks each of its figures by 77."""
    run = make_run(folder)
    text = (run / NAME).read_text()
    profile = json.loads(text)
    marked = {
        **profile, "first_inference_ms": 7700.25, "load_ms": 7701.25, "peak_memory_mb": 7702.25, "cv": 77.0325,
        "drift_percent": 7704.25, "energy_mj_per_inference": 7705.25, "notes": ["slower by 7706.25 %"],
        "latency_ms": {
            stage: dict.fromkeys(("p50", "p90", "p95", "p99", "mean", "mad", "min", "max"), 7710.25) | {"count": 7711}
            for stage in profile["latency_ms"]
        },
        "histogram": {"edges_ms": [7720.25, 7721.25], "counts": [7722]},
    }  # fmt: skip
    changed = {**marked, **changes}
    (run / NAME).write_text(json.dumps(unless_emulated(changed, changes.get("emulated"))))  # type: ignore[arg-type]
    render(run)
    return {suffix: (run / f"report.{suffix}").read_text() for suffix in ("html", "md", "json")}


def test_the_marks_are_seen_where_the_latency_is_valid(tmp_path: Path) -> None:
    texts = shown(tmp_path / "run")
    assert "7710" in texts["html"]
    assert "7710" in texts["md"]
    (row,) = (one for one in json.loads(texts["json"])["artifacts"] if one["target"] == "onnx-fp32")
    assert set(numbers(row)) >= MARKS
    assert row["notes"] == ["slower by 7706.25 %"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"emulated": "its device file says so"}, "emulated: its device file says so"),
        ({"environment": {"platform": {"emulated": "x on y"}}}, "emulated: x on y"),
        ({"valid": False, "invalid_reasons": ["throttled"]}, "throttled"),
    ],
)
def test_no_figure_of_an_invalid_latency_is_shown(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    texts = shown(tmp_path / "run", **changes)
    artifacts = json.loads(texts["json"])["artifacts"]
    (row,) = (artifact for artifact in artifacts if artifact["target"] == "onnx-fp32")
    assert (row["valid"], row["invalid_reasons"], row["pareto"]) == (False, [reason], None)
    assert row["ap"] == 0.4973, "accuracy counts"
    assert not MARKS & set(numbers(row))
    for mark in ("7700", "7701", "7702", "77.03", "7704", "7705", "7706", "7710", "7711", "7720", "7722"):
        assert mark not in texts["md"]
        assert f">{mark}" not in texts["html"]
    assert f"The latency of onnx-fp32@local is not valid: {reason}." in texts["html"]
    assert f"The latency of onnx-fp32@local is not valid: {reason}." in texts["md"]
