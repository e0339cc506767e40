"""Several runs on one page."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path

import pytest

from edgekd.report.side_by_side import collected, rows
from edgekd.stages.run_reports import open_in_browser, write_side_by_side
from tests.report.make_run import make_run
from tests.stages.tiny import edgekd


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    made = [make_run(tmp_path / name) for name in ("first", "second")]
    student = json.loads((made[1] / "validate/student@host.json").read_text())
    (made[1] / "validate/student@host.json").write_text(json.dumps({**student, "ap": 0.55}))
    (made[1] / "profile/onnx-fp16@local.json").unlink()
    return made


def test_a_row_per_figure_and_a_value_per_run(runs: list[Path]) -> None:
    found = {row["figure"]: row["values"] for row in rows(collected(runs))}
    assert found["AP of student"] == [0.4973, 0.55]
    assert found["gain over the control"] == pytest.approx([0.0382, 0.0909])
    assert found["onnx-fp16@local: p50"] == [2.61, None]
    assert found["onnx-fp32@local: size"] == [1_640_000, 1_640_000]


def test_the_page_and_the_command(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = edgekd("report", *runs)
    assert ended.code == 0
    assert "report: side-by-side.html" in ended.out
    page = (tmp_path / "side-by-side.html").read_text()
    for text in ("first, second", "0.497", "0.550", "2.61 ms", "&lt;script&gt;alert(1)&lt;/script&gt;"):
        assert text in page
    assert "<script" not in page
    assert "Not the same data" not in page
    reports = edgekd("report", *runs, "--json", "--out", tmp_path / "b.html").json
    assert [report["run"] for report in reports] == ["first", "second"]


def test_other_data_is_said(runs: list[Path], tmp_path: Path) -> None:
    split = json.loads((runs[1] / "data/split.json").read_text())
    split["splits"]["val"]["content_hash"] = "another"
    (runs[1] / "data/split.json").write_text(json.dumps(split))
    write_side_by_side(runs, tmp_path / "a.html")
    assert "Not the same data" in (tmp_path / "a.html").read_text()


def test_what_is_for_one_run_alone_or_for_several(runs: list[Path], tmp_path: Path) -> None:
    assert "is for several runs" in edgekd("report", runs[0], "--out", tmp_path / "a.html").problems[0]
    assert "changes the report of one run" in edgekd("report", *runs, "--set", "seed=1").problems[0]
    assert "no run directory" in edgekd("report", runs[0], tmp_path / "none", "--out", tmp_path / "a.html").problems[0]


def test_a_browser_shows_it_or_the_path_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(asked.append(address)))
    open_in_browser(tmp_path / "a b.html")
    assert asked == [(tmp_path / "a b.html").as_uri()]
    assert capsys.readouterr().err == f"no browser could be started; open {tmp_path / 'a b.html'}\n"
