"""The notebook of docs/, cell by cell, by what a notebook does with a cell: run it, and show its last value."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekd

NOTEBOOK = Path(__file__).parents[2] / "docs" / "python.ipynb"


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; the value of its last line."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    exec(compile(tree, NOTEBOOK.name, "exec"), names)
    return eval(compile(last, NOTEBOOK.name, "eval"), names)


def test_it_is_a_notebook_without_results() -> None:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert [cell.get("outputs", []) for cell in content["cells"]] == [[]] * len(content["cells"])
    for source in cells():
        ast.parse(source)


@pytest.mark.slow
def test_every_cell_shows_what_it_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    results = [shown(source, names) for source in cells()]
    recipe, checked, run, (ap, gain), (lr, epochs), latency, (labels, found), predicted, verdict, report = results
    for result in (recipe, checked, run, labels, found, predicted, verdict):
        assert result._repr_html_().startswith("<")
    assert gain == pytest.approx(ap["student"] - ap["control"])
    assert len(lr) == 2
    assert [(done, values) for _, done, values in epochs if values is not None]
    assert {title for title, _, _ in epochs} == {"control", "student"} or len(epochs) == 4
    assert np.all(latency["end_to_end"] > 0)
    assert isinstance(predicted, edgekd.Detections)
    assert verdict.status == "fail"
    assert report == Path("runs/notebook/report.html")
    assert report.is_file()
