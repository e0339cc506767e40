from pathlib import Path

import pytest

from edgekd.report.collect import collect
from edgekd.report.errors import error_rows
from edgekd.report.render import render

from .make_run import AP, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def test_rows_have_numbers_costs_and_widths_of_the_largest_cost(run: Path) -> None:
    rows = {row.kind: row for row in error_rows(collect(run))}
    assert list(rows) == ["classification", "localisation", "both", "duplicate", "background", "missed"]
    assert rows["missed"].models == {role: (96, 0.0445) for role in AP}
    largest = round(0.5 - AP["control"] / 2, 4)
    assert rows["localisation"].width["control"] == 1.0
    assert rows["missed"].width["student"] == pytest.approx(0.0445 / largest)


def test_a_model_that_was_not_measured_has_none(run: Path) -> None:
    (run / "validate/control@host.json").unlink()
    (run / "control/metrics.json").unlink()
    row = error_rows(collect(run))[0]
    assert row.models["control"] is None and row.width["control"] == 0.0
    render(run)
    assert "| missed | 96 (0.044) | — | 96 (0.044) |" in (run / "report.md").read_text(encoding="utf-8")


def test_runs_of_former_versions_have_no_table(run: Path) -> None:
    for path in (*run.glob("validate/*@host.json"), run / "teacher/teacher.json", *run.glob("*/metrics.json")):
        path.write_text(path.read_text(encoding="utf-8").replace('"errors"', '"former"'), encoding="utf-8")
    assert error_rows(collect(run)) == []
    render(run)
    assert "Errors by kind" not in (run / "report.html").read_text(encoding="utf-8")
