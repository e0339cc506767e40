"""The table of seeds, and the drawing of their differences."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from edgekd.measure.paired_gain import paired_gain
from edgekd.report.gains import gain_over_seeds, seed_rows
from edgekd.report.numbers import gain_words


def of(controls: list[float], students: list[float]) -> dict[str, Any]:
    rows = [
        {"seed": seed, "control_ap": control, "student_ap": student}
        for seed, (control, student) in enumerate(zip(controls, students, strict=True))
    ]
    return {"seeds": rows, "selected": 1, "select": "median", "gain": asdict(paired_gain(students, controls))}


VAL = of([0.15, 0.17, 0.16], [0.26, 0.27, 0.29])
TEST = {**of([0.14, 0.17, 0.15], [0.24, 0.26, 0.29]), "images": 32}


def test_rows_have_val_and_test_of_a_seed_side_by_side() -> None:
    rows = seed_rows({"seeds": VAL, "test": TEST})
    assert [row["goes_on"] for row in rows] == [False, True, False]
    assert rows[2]["val"]["gain"] == pytest.approx(0.13) and rows[2]["test"]["gain"] == pytest.approx(0.14)
    assert seed_rows({"seeds": VAL, "test": None})[0]["test"] == {"control": None, "student": None, "gain": None}
    assert seed_rows({"seeds": None, "test": TEST}) == []


def test_every_difference_is_a_dot_and_each_split_an_interval() -> None:
    figure = gain_over_seeds({"seeds": VAL, "test": TEST})
    assert figure is not None
    assert figure.drawing.count("<circle") == 6 and figure.drawing.count('class="line front"') == 8
    assert "on val: +0.113 AP; on test: +0.110 AP" in figure.drawing
    assert figure.sources == ("seeds.json", "test.json")


def test_one_seed_is_not_drawn() -> None:
    assert gain_over_seeds({"seeds": None, "test": of([0.1], [0.2])}) is None


def test_words_say_when_there_is_no_interval() -> None:
    assert gain_words(VAL["gain"]) == "+0.113 [+0.075, +0.151] AP over 3 seeds"
    assert gain_words(of([0.1], [0.2])["gain"]) == "+0.100 AP of one seed, which has no interval"
