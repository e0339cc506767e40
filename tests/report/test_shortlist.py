"""The page of a shortlist: what is drawn, what is not, and that text of others is text."""

from __future__ import annotations

from typing import Any

from edgekd.report.shortlist import figures, page


def entry(name: str, **changes: Any) -> dict[str, Any]:
    model, _, rest = name.partition("-")
    return {
        "name": name, "model": model, "size_px": int(rest.partition("/")[0]), "target": rest.partition("/")[2],
        "precision": "fp32", "series": model[:-1], "parameters": 2_600_000, "gflops": 6.5, "coco_ap": 39.5,
        "status": "measured", "reason": "", "p50_ms": 10.0, "p90_ms": 11.0, "memory_mb": 90.0, "size_mb": 10.0,
        "energy_mj": None, "spread": 0.0, "notes": [], "budgets": {}, "excess": {}, "fits": None,
        "dominated_by": None, "predicted": None, **changes,
    }  # fmt: skip


def content(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "recipe": "street", "device": "board", "protocol": "quick", "front": [], "best": [], "nearest": None,
        "candidates": list(entries), "coco_ap_sources": [{"source": "docs", "url": "https://example.org"}], **changes,
    }  # fmt: skip


MEASURED = entry("yolo11n-640/onnx-fp32", budgets={"max_p90_ms": 20.0}, excess={"max_p90_ms": 0.55}, fits=True)
OVER = entry(
    "yolo11p-640/onnx-fp16", coco_ap=None, budgets={"max_p90_ms": 8.0}, excess={"max_p90_ms": 1.375}, fits=False
)
PREDICTED = entry(
    "yolo11x-640/onnx-fp32", status="open", reason="predicted beyond its budget", p50_ms=None, p90_ms=None,
    predicted={"p90": {"ms": 303.0, "low_ms": 202.0, "high_ms": 404.0}},
)  # fmt: skip


def test_measured_candidates_are_drawn_and_no_others() -> None:
    work, size, ap = figures([MEASURED, OVER])
    assert [figure.title for figure in (work, size, ap)] == [
        "Latency against work", "Latency against image size", "Latency against published AP",
    ]  # fmt: skip
    assert work.drawing.count("<circle") == work.drawing.count("<polygon") == 1  # a shape for each target
    assert work.drawing.count('class="budget"') == 2
    assert "dot term0 off" in work.drawing  # over its budget
    assert ap.drawing.count("<polygon") == 0
    assert "1 without such a figure left out" in ap.note


def test_without_anything_measured_nothing_is_drawn() -> None:
    assert figures([]) == []
    shown = page(content(PREDICTED))
    assert "<svg" not in shown
    assert "Nothing was measured that could be taken." in shown


def test_a_prediction_stands_apart_and_as_an_interval() -> None:
    measured, _, waiting = page(content(MEASURED, PREDICTED, best=[MEASURED["name"]])).partition("Not measured")
    assert "yolo11x" not in measured
    assert "202" not in measured
    assert "200 to 400 ms" in waiting.replace("202", "200").replace("404", "400")
    assert "303" not in waiting


def test_what_is_over_a_budget_says_by_how_much_and_the_nearest_is_named() -> None:
    nearest = {"name": OVER["name"], "budget": "max_p90_ms", "times": 1.375}
    shown = page(content(OVER, nearest=nearest))
    assert "The nearest is <b>yolo11p-640/onnx-fp16</b>, at 1.38 times max_p90_ms." in shown
    assert "1.38 times max_p90_ms</td>" in shown


def test_names_of_others_are_text() -> None:
    evil = entry("yolo11n-640/onnx-fp32", status="impossible", reason="<script>alert(1)</script>")
    shown = page(content(evil, recipe="<b>x</b>"))
    assert "<script>" not in shown
    assert "&lt;b&gt;x&lt;/b&gt;" in shown
