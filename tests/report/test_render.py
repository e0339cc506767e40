from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekd.report import render as render_module
from edgekd.report.render import per_class, render
from edgekd.stages.summaries import show
from tests.report.make_run import CLASSES, make_run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page; fails on one that is not closed, or closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "quickstart")


def page(run: Path, **options: object) -> Page:
    render(run, **options)  # type: ignore[arg-type]
    return Page((run / "report.html").read_text(encoding="utf-8"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_json_is_what_is_returned(run: Path) -> None:
    report = render(run)
    assert json.loads((run / "report.json").read_text(encoding="utf-8")) == report


def test_the_page_loads_nothing_and_runs_nothing(run: Path) -> None:
    shown = page(run)
    assert shown.all("script") == shown.all("link") == shown.all("iframe") == []
    for tag, attributes in shown.elements:
        for name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (tag, value)
        assert not [name for name in attributes if name.startswith("on")]
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text
    policy = next(meta for meta in shown.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_names_are_text_wherever_they_stand(run: Path) -> None:
    evil = "\"><script>alert(2)</script><img src=x onerror='alert(3)'>"
    edit(run / "verdict.json", status="fail", reasons=[evil])
    edit(run / "student/metrics.json", name=evil)
    first_steps = {"steps": 1, "terms": [{"term": evil, "value": 1.0, "share": 0.2, "warning": evil}]}
    (run / "student/first_steps.json").write_text(json.dumps(first_steps))
    (run / "student/terms.csv").write_text(
        "step,epoch,term,value,weight,weighted,share\n0,0,<script>x</script>,1,1,1,0.2\n1,0,<script>x</script>,1,1,1,0.2\n"
    )
    (run / "recipe.lock.yaml").write_text('name: "<script>alert(4)</script>"\nx: "</pre><script>"\n')
    shown = page(run)
    assert shown.all("script") == []
    assert shown.all("img") == []
    assert evil in shown.texts
    assert "<script>alert(4)</script>" in shown.texts
    assert CLASSES[2] in shown.texts


def test_structure(run: Path) -> None:
    shown = page(run)
    assert len(shown.all("h1")) == len(shown.all("main")) == 1
    assert "quickstart: passed – edgekd report" in shown.texts
    assert len(shown.all("table")) == len(shown.all("caption")) >= 7
    for image in (svg for svg in shown.all("svg") if svg.get("role") == "img"):
        assert image["aria-label"]
    for svg in shown.all("svg"):
        assert svg.get("role") == "img" or svg.get("aria-hidden") == "true"
    identities = [attributes["id"] for _, attributes in shown.elements if attributes.get("id")]
    assert len(identities) == len(set(identities))
    headings = [text for text in shown.texts if text]
    for title in ("Passed", "Artifacts", "Gate", "Accuracy", "Distillation", "Latency", "Detections"):
        assert title in headings


def test_headline_figures(run: Path) -> None:
    texts = page(run).texts
    for figure in ("0.612", "0.459", "0.497", "+0.038", "25 %", "812 k", "1.57", "1.79", "1.64 MB"):
        assert figure in texts, figure
    assert "All 3 checks of the gate are within their budgets." in texts
    assert "edgekd run quickstart/recipe.lock.yaml --out quickstart" in texts


def test_absence_is_a_dash_with_its_reason(run: Path) -> None:
    shown = page(run)
    titles = {attributes.get("title") for tag, attributes in shown.elements if attributes.get("class") == "na"}
    assert "too few samples for this percentile" in titles
    assert "no object of this size" in titles
    assert "0.0" not in shown.texts


@pytest.mark.parametrize("status", ["fail", "inconclusive", "invalid"])
def test_the_verdict_comes_first_with_its_reasons(run: Path, status: str) -> None:
    edit(run / "verdict.json", status=status, reasons=["p90 12.1 ms, must be <= 10 ms: missed by 2.1 ms"])
    shown = page(run)
    texts = [text for text in shown.texts if text]
    assert texts.index(status.capitalize() if status != "fail" else "Failed") < texts.index("Artifacts")
    assert "p90 12.1 ms, must be <= 10 ms: missed by 2.1 ms" in texts
    assert f"verdict is-{status}" in [section.get("class") for section in shown.all("section")]


def test_a_run_of_training_alone_is_shown(run: Path) -> None:
    for folder in ("teacher", "control", "export", "validate", "profile", "data"):
        shutil.rmtree(run / folder)
    (run / "verdict.json").unlink()
    (run / "manifest.json").unlink()
    shown = page(run)
    assert "Not judged" in shown.texts
    assert "Nothing was exported." in shown.texts
    assert "Latency" not in shown.texts
    assert "Detections" not in shown.texts
    markdown = (run / "report.md").read_text(encoding="utf-8")
    assert markdown.startswith("## edgekd: quickstart: not judged\n")
    assert "| Control | — | — | — | — |" in markdown


def test_images_can_be_left_out(run: Path) -> None:
    assert page(run).all("image")
    bare = page(run, images=False)
    assert bare.all("image") == []
    assert "Detections" not in bare.texts
    assert "data:image" not in (run / "report.html").read_text(encoding="utf-8")


def test_classes_without_figures_are_kept(run: Path) -> None:
    rows = per_class(render(run))
    assert [row["name"] for row in rows] == list(CLASSES)
    assert rows[3]["models"] == [None, 0.4191, 0.4573]
    assert rows[0]["gain"] == pytest.approx(0.0382)
    assert rows[0]["artifacts"] == [0.5571, 0.5573, 0.557, 0.5572]


def test_markdown_tables(run: Path) -> None:
    edit(run / "verdict.json", status="fail", reasons=["a|b: AP `0.3`, ask @someone"])
    render(run)
    text = (run / "report.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "## edgekd: quickstart: ❌ fail"
    assert lines[2] == r"- a\|b: AP \`0.3\`, ask @&#8203;someone"
    assert "| Student | yolo11p | 0.497 | 0.787 | 0.527 |" in lines
    gain = "Gain over the control: **+0.038 AP**, 8.3 % of its AP, 25 % of the gap to the teacher"
    assert f"{gain} (one run, without an interval)." in lines
    assert "| background | 12,345 (0.031) | 12,345 (0.031) | 12,345 (0.031) |" in lines
    assert "| onnx-fp32@local | 0.497 | 0.787 | 0.000 | 0.000140 | 2.18 | 2.41 | — | 1.64 MB |" in lines
    assert any(line.startswith("| **openvino-fp32@local** |") for line in lines)
    assert r"| max\_p90\_ms, onnx-fp32@local | 2.41 ms | ≤ 10.0 ms | ✅ pass |" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert {line.replace(r"\|", "").count("|") for line in tables} == {6, 10, 5, 4}


def test_energy_is_shown_where_power_was_read(run: Path) -> None:
    path = next(run.glob("profile/*.json"))
    render(run)
    assert " mJ |" not in (run / "report.md").read_text(encoding="utf-8")
    energy = {"total_rule": "VDD_IN", "reason": None}
    edit(path, energy_mj_per_inference=61.27, energy=energy, temperature_c={"start": 40.0, "max": 57.9})
    texts = page(run).texts
    assert "61.3" in texts
    assert "57.9" in texts
    assert "VDD_IN; idle power is not subtracted" in (run / "report.html").read_text(encoding="utf-8")
    markdown = (run / "report.md").read_text(encoding="utf-8")
    assert "| p99 ms | mJ | size |" in markdown
    assert "| 61.3 |" in markdown


def test_notes_and_ties_stand_in_every_form(run: Path) -> None:
    note = "the processes' medians differ by 22.0% (1.57 to 1.92 ms); differences below that mean nothing here"
    edit(run / "profile/openvino-fp32@local.json", notes=[note], spread={"p50": 0.22, "p90": None})
    shown = page(run)
    report = json.loads((run / "report.json").read_text())
    assert report["best"]["target"] is None
    assert report["best"]["tied"] == ["openvino-fp16@local", "openvino-fp32@local"]
    assert any(note in text for text in shown.texts)
    assert any("so none of them is called the best" in text for text in shown.texts)
    written = (run / "report.md").read_text()
    assert "local: the processes' medians differ by 22.0%" in written
    assert "No single best: lowest median" in written
    assert "| **openvino" not in written
    _, said = show(run, "report")
    assert f"openvino-fp32@local      note: {note}" in said


def test_nothing_is_written_when_something_cannot_be_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_report: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr(render_module, "per_class", broken)
    with pytest.raises(RuntimeError):
        render(run)
    assert not list(run.glob("report.*"))
