"""What a data set holds, in the report and in the terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgekd.report.data_tables import DataTables, data_tables
from edgekd.report.render import render
from edgekd.stages.data_text import print_data
from tests.report.make_run import CLASSES, make_run

TRAIN = {
    "images": 1200, "left_out": 3, "backgrounds": 7, "without_labels": 0, "objects": 4, "crowds": 0, "small": 1,
    "medium": 2, "large": 1, "objects_per_class": {"ant": 3, "bee": 1}, "copies": 0, "in_train": None,
    "content_hash": "0",
}  # fmt: skip
RECORD: dict[str, Any] = {
    "schema": "edgekd.data/2", "class_names": ["ant", "bee"], "channels": 3,
    "splits": {"train": TRAIN, "val": {**TRAIN, "images": 9, "in_train": 9, "left_out": 0}},
    "problems": [{"split": "train", "kind": "box given twice", "count": 2, "examples": ["a.txt:2", "a.txt:3"],
                  "handled": "read once"}],
    "warnings": ["val: every image is in train as well"],
}  # fmt: skip


def test_rows_hold_every_split_and_leave_out_what_is_nowhere() -> None:
    assert data_tables(RECORD) == DataTables(
        splits=("train", "val"),
        facts=(
            ("images", (1200, 9)),
            ("left out as faulty", (3, 0)),
            ("images without a box", (7, 7)),
            ("objects", (4, 4)),
            ("small objects (area below 32² px)", (1, 1)),
            ("medium objects (below 96² px)", (2, 2)),
            ("large objects", (1, 1)),
            ("images of train", (None, 9)),
        ),
        classes=(("ant", (3, 3)), ("bee", (1, 1))),
    )


def test_a_record_of_an_older_run_is_shown_as_far_as_it_goes() -> None:
    old = {"class_names": ["ant"], "splits": {"train": {"images": 3, "content_hash": "0"}}, "problems": []}
    assert data_tables(old) == DataTables(("train",), (("images", (3,)),), ())
    assert data_tables(None) is data_tables({"splits": {}}) is None


def test_the_terminal_shows_tables_and_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    print_data(RECORD)
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in (
        "train val", "images 1,200 9", "images of train - 9", "objects of class train val", "ant 3 3",
        "2 classes, 3 channels", "warning: val: every image is in train as well",
        "warning: train: box given twice: 2 found (read once), e.g. a.txt:2, a.txt:3",
    ):  # fmt: skip
        assert line in lines
    assert "{" not in printed


def test_the_report_shows_them_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "quickstart")
    (run / "data/split.json").write_text(json.dumps({**RECORD, "class_names": list(CLASSES)}))
    render(run, images=False)
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    assert "Data, val: every image is in train as well." in page
    assert "Data, val: every image is in train as well." in text
    assert 'scope="row" title="images of train">' in page
    assert re.search("<td[^>]*>1,200</td><td[^>]*>9</td>", page)
    assert "| images | 1,200 | 9 |" in text
    assert "| images of train | — | 9 |" in text
