"""The history of baselines: names on the axis, throughput beside accuracy and latency, rows for programs and people."""

from __future__ import annotations

import json
import re
from typing import Any

from edgekd.gate.baseline import Baseline, Entry
from edgekd.report.history import page, rows, shown
from edgekd.report.plots import Key, Line, line_chart


def entry(**changes: Any) -> Entry:
    given = {
        "target": "onnx-fp32", "device": "local", "files": {}, "size_bytes": 3_300_000, "ap": 0.25, "ap50": 0.4,
        "p50_ms": 1.5, "p90_ms": 1.75, "images_per_second": None, "fingerprint": "abcdef0123",
    }  # fmt: skip
    return Entry.model_validate(given | changes)


def baseline(name: str, *entries: Entry) -> Baseline:
    return Baseline(
        name=name, saved="2026-01-31T12:00:00Z", recipe="r", edgekd="0.1.0", data=None, student_ap=0.25,
        artifacts=entries or (entry(),),
    )  # fmt: skip


def labels(shown_page: str) -> list[str]:
    """Texts below the x axis of the first chart."""
    chart = shown_page[shown_page.index("<svg") : shown_page.index("</svg>")]
    return re.findall(r'class="tick" text-anchor="middle">([^<]*)<', chart)


def test_baselines_stand_on_the_axis_by_their_names() -> None:
    kept = [baseline("v1"), baseline("v1.1"), baseline("summer", entry(images_per_second=700.0))]
    shown_page = page(kept)
    assert labels(shown_page) == ["v1", "v1.1", "summer"]
    titles = re.findall(r"<figcaption>([^<]*)<", shown_page)
    assert titles == ["AP", "Latency", "Throughput"]
    assert ">700</td>" in shown_page


def test_without_throughput_there_is_no_chart_of_it() -> None:
    assert re.findall(r"<figcaption>([^<]*)<", page([baseline("v1"), baseline("v2")])) == ["AP", "Latency"]


def test_one_baseline_has_its_name_too() -> None:
    assert [text for text in labels(page([baseline("first")])) if text] == ["first"]


def test_long_names_are_cut_and_many_are_thinned() -> None:
    line = Line(Key("a", "term0"), tuple((float(number), 1.0) for number in range(1, 31)))
    drawn = str(line_chart("AP", [line], ("baseline", "AP"), names=[f"release-candidate-{n}" for n in range(1, 31)]))
    found = re.findall(r'class="tick" text-anchor="middle">([^<]*)<', drawn)
    assert 3 <= len(found) <= 8
    assert all(name.endswith("\u2026") and name.startswith("release") for name in found)


def test_names_are_text() -> None:
    line = Line(Key("a", "term0"), ((1.0, 1.0), (2.0, 2.0)))
    drawn = str(line_chart("AP", [line], ("baseline", "AP"), names=["<b>", "&"]))
    assert "&lt;b&gt;" in drawn
    assert "<b>" not in drawn


def test_rows_hold_numbers_for_programs_and_words_for_people() -> None:
    (row,) = rows([baseline("v1", entry(images_per_second=812.5, peak_memory_mb=96.0))])
    assert json.loads(json.dumps(row)) == {
        "artifact": "onnx-fp32@local", "baseline": "v1", "saved": "2026-01-31T12:00:00Z", "ap": 0.25, "p50_ms": 1.5,
        "p90_ms": 1.75, "images_per_second": 812.5, "size_bytes": 3_300_000, "peak_memory_mb": 96.0,
        "environment": "abcdef0123",
    }  # fmt: skip
    assert shown([row]) == [{
        "artifact": "onnx-fp32@local", "baseline": "v1", "saved": "2026-01-31", "AP": "0.250", "median ms": "1.50",
        "images/s": "812", "size": "3.30 MB", "where": "abcdef",
    }]  # fmt: skip
