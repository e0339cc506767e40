"""Every writer, given one nasty set of names: nothing is a command, markup, or a control character."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgekd import atomic, progress, terminal
from edgekd.cli.app import print_json, print_pairs, print_rows
from edgekd.errors import InputError, unknown
from edgekd.gate import ci_output
from edgekd.gate.baseline import Baseline
from edgekd.gate.verdict import Check, Verdict
from edgekd.report import history
from edgekd.report.render import render
from edgekd.stages.check import print_check
from tests.gate.test_baseline import entry
from tests.hostile.nasty import NAMES
from tests.report import make_run as made

VERDICT = Verdict(
    "fail",
    NAMES,
    tuple(Check("min_ap_per_class", name, 0.1, 0.2, ">=", "fail", f"min_ap: {name}: {name}") for name in NAMES),
)
EMAIL = re.compile(r"\w@[\w-]+\.\w")


def require_neutral(text: str) -> None:
    """As a terminal and the runners of CI systems read it."""
    for line in text.split("\n"):
        assert line.isprintable(), ascii(line[:200])
        assert not line.lstrip().startswith("::"), line[:200]
        assert not re.search(r"##\w*\[", line), line[:200]


def printed(act: Callable[[], Any]) -> str:
    """What is written on both streams."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        act()
    return out.getvalue()


def on_a_terminal(name: str) -> Iterator[Callable[[], Any]]:
    rows = [{"class": name, "where": f"{name} {name}", "ap": 0.5}]
    spec = {
        "name": name, "parameters": 1, "head_kind": "dense", "head": name, "head_facts": {"bins": 1},
        "taps": [{"role": name, "path": name, "stride": 8, "channels": 1}],
    }  # fmt: skip
    check = {
        "recipe": name, "student": spec, "teacher": None, "teachers": {name: spec}, "quantize": {"mode": "ptq"},
        "targets": [name],
        "devices": [name], "without_agent": {name: name}, "runs_here": {name: [name]},
        "warnings": [name],
        "classes": [{"name": name, "teacher": name, "column": 1, "how": "exact", "note": name}],
        "distill": [{"method": name, "teacher": name, "weight": 1.0, "taps": [(name, name)]}], "knowledge": name,
    }  # fmt: skip
    yield lambda: print_rows(rows, as_json=False)
    yield lambda: print_rows(rows, as_json=True)
    yield lambda: print_pairs({name: name})
    yield lambda: print_json({name: [name]})
    yield lambda: terminal.print_lines([name, f"a: {name}"])
    yield lambda: print_check(check)
    yield lambda: progress.say(name)
    yield lambda: progress.say(f"validate {name}: {name}")


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_terminals(name: str) -> None:
    for act in on_a_terminal(name):
        text = printed(act)
        assert text.endswith("\n")
        require_neutral(text)


@pytest.mark.parametrize("width", [20, 40, 80])
def test_cells_that_are_folded_begin_no_command(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    cells = [{"a": "x" * shift + "::error::pwned" * 9, "b": "y " * shift + "##[error]" * 9} for shift in range(40)]
    require_neutral(printed(lambda: print_rows(cells, as_json=False)))


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_errors(name: str) -> None:
    error = InputError(f"{name}: wrong", unknown("class", name, NAMES))
    assert len(error.problems) == 2
    for problem in error.problems:
        require_neutral(problem)
        assert "\n" not in problem
        assert len(problem) < 4100


def test_what_is_read_back_from_json_is_what_was_written(tmp_path: Path) -> None:
    atomic.write_json(tmp_path / "a.json", {name: name for name in NAMES})
    assert atomic.read_json(tmp_path / "a.json") == {name: name for name in NAMES}
    require_neutral((tmp_path / "a.json").read_text(encoding="utf-8"))


def test_junit_is_xml() -> None:
    text = ci_output.junit(VERDICT, NAMES[0])
    require_neutral(text)
    suite = ElementTree.fromstring(text.partition("\n")[2])
    assert [child.tag for case in suite for child in case] == ["failure"] * len(NAMES)
    assert "<script>alert(1)</script>" in [case.get("name") for case in suite]


def test_annotations_are_one_command_each() -> None:
    lines = ci_output.github(VERDICT, "\n::x::%0A,a=b").splitlines()
    assert len(lines) == len(NAMES)
    for line in lines:
        assert line.isprintable()
        head, _, message = line.removeprefix("::").partition("::")
        assert head == "error title=\\n%3A%3Ax%3A%3A%250A%2Ca=b%3A min_ap_per_class"
        assert not re.search(r"%(?!25)", message)


def require_harmless_markdown(text: str) -> None:
    """By what Markdown readers act on; escapes are taken away first."""
    require_neutral(text)
    bare = re.sub(r"\\.", "", text)
    assert not re.search(r"<(?!/?(b|br)>)", bare)
    assert not re.search(r"[\[\]`$]", bare)
    assert "://" not in bare
    assert not re.search(r"\bwww\.", bare)
    assert not re.search(r"(?<!\w)@(?!&#8203;)", bare)
    assert not EMAIL.search(bare)
    tables = [line for line in bare.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in tables if line.count("|") > 1}) >= 1


def test_markdown_of_a_verdict() -> None:
    text = ci_output.markdown(VERDICT, NAMES[4])
    require_harmless_markdown(text)
    rows = [line for line in re.sub(r"\\.", "", text).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(NAMES)
    assert {line.count("|") for line in rows} == {5}


class Page(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def require_harmless_html(text: str) -> None:
    for line in text.replace("\t", " ").split("\n"):
        assert line.isprintable(), ascii(line[:200])
    page = Page(text)
    assert not {"script", "x", "iframe", "a", "object"} & page.tags
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("action", "formaction")
        assert name not in ("href", "src") or (value or "").startswith(("#", "data:image/jpeg;base64,"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory whose class names, file names, recipe, verdict, artifacts and device are nasty."""
    folder = tmp_path_factory.mktemp("nasty") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "CLASSES", NAMES)
        patch.setattr(made, "_accuracy", accuracy)
        made.make_run(folder)
    edit(folder / "manifest.json", recipe=NAMES[3], command=NAMES[4])
    edit(folder / "teacher/teacher.json", name=NAMES[5])
    edit(folder / "student/metrics.json", name=NAMES[16])
    edit(folder / "data/split.json", problems=[{"kind": name, "count": 2, "examples": [name]} for name in NAMES])
    checks = [
        {"metric": "min_ap", "subject": name, "value": 0.1, "limit": 0.2, "op": ">=", "status": "fail", "detail": name}
        for name in NAMES
    ]
    edit(folder / "verdict.json", status="fail", reasons=list(NAMES), checks=checks)
    profile = folder / "profile/onnx-fp32@local.json"
    edit(
        profile, valid=False, invalid_reasons=list(NAMES), notes=list(NAMES), environment={name: name for name in NAMES}
    )
    truths = json.loads((folder / "data/ground_truth-val.json").read_text())
    for image, name in zip(truths["images"], NAMES[16:], strict=False):
        image["file_name"] = name
    (folder / "data/ground_truth-val.json").write_text(json.dumps(truths))
    return folder


def accuracy(model: str, device: str, ap: float) -> dict[str, Any]:
    return {
        "schema": "edgekd.accuracy/1", "model": model, "device": device, "images": 200, "ap": ap, "ap50": ap,
        "ap75": ap, "ap_small": ap, "ap_medium": ap, "ap_large": None, "per_class": dict.fromkeys(NAMES, ap),
        "operating_point": {"threshold": 0.25, "precision": 0.8, "recall": 0.7, "f1": 0.7},
        "settings": {"conf": 0.001, "iou": 0.7, "max_det": 300, "head": NAMES[16]},
    }  # fmt: skip


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_report(run: Path) -> None:
    report = render(run)
    assert report["verdict"]["reasons"] == list(NAMES), "programs get what was measured"
    require_neutral((run / "report.json").read_text(encoding="utf-8"))
    page = (run / "report.html").read_text(encoding="utf-8")
    require_harmless_html(page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    text = (run / "report.md").read_text(encoding="utf-8")
    require_harmless_markdown(text.rpartition("with\n\n    ")[0])  # the rest is a block of code
    require_neutral(text)


def test_the_history() -> None:
    entries = tuple(entry(target=name, device=name, fingerprint=name) for name in NAMES)
    releases = [Baseline(name=name, saved=name, recipe=name, edgekd=name, data=name, student_ap=0.5, artifacts=entries)
                for name in NAMES[::8]]  # fmt: skip
    require_harmless_html(history.page(releases))
    require_neutral(printed(lambda: print_rows(history.rows(releases), as_json=False)))
