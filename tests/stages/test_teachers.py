"""Several teachers, each method with its own, and the student's average as one."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.tiny import edgekd, weights, write_recipe

METHODS = [
    "logit",
    {"method": "pkd", "teacher": "wide"},
    {"method": "fitnet", "teacher": "ema", "weight": "auto"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    for name, model in (("teacher", "yolo11n"), ("wide", "yolov8n"), ("student", "yolo11p")):
        weights(tmp_path / f"{name}.safetensors", model)
    return tmp_path


def recipe(folder: Path, **changes: Any) -> Path:
    more = {"wide": {"weights": "wide.safetensors"}}
    return write_recipe(folder / "tiny.yaml", **{"teachers": more, "distill": METHODS, "control": False, **changes})


def test_each_method_learns_from_its_own_teacher(folder: Path) -> None:
    ended = edgekd("distill", recipe(folder, export=[], devices=[], gate=None), "--out", folder / "run")
    assert ended.code == 0, ended.err
    run = folder / "run"
    found = {path.stem: json.loads(path.read_text())["name"] for path in (run / "teacher").glob("*.json")}
    assert found == {"teacher": "yolo11n", "wide": "wide"}, "by its file where the recipe names no model"
    with (run / "student/terms.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    values = {row["term"]: [float(one["value"]) for one in rows if one["term"] == row["term"]] for row in rows}
    assert set(values) == {"detection", "logit.class", "pkd.feature", "fitnet.feature"}
    assert values["logit.class"][0] > 0 and values["pkd.feature"][0] > 0
    assert "teacher.wide" in ended.out
    again = edgekd("distill", folder / "tiny.yaml", "--out", run)
    assert {"teacher", "teacher/wide", "student"} <= set(again.kept)


def test_check_shows_whom_each_method_learns_from(folder: Path) -> None:
    ended = edgekd("check", recipe(folder), "--dry-step")
    assert ended.code == 0, ended.err
    shown = " ".join(ended.out.split())
    assert "distill logit (weight 0.5)" in shown
    assert "distill pkd from wide (weight 10)" in shown
    assert "distill fitnet from ema (weight auto, 0.2 of the detection loss)" in shown


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"distill": [{"method": "cwd", "teacher": "wider"}]},
            "distill[0].teacher: unknown teacher 'wider' (known: ema, teacher, wide; did you mean 'wide'?)",
        ),
        ({"teacher": None, "distill": ["cwd"]}, "'distill' needs a 'teacher', or name one of wide, ema under"),
        ({"teachers": {"ema": {"weights": "wide.safetensors"}}}, "teachers: 'ema' cannot be a name"),
        ({"teachers": {"a/b": {"weights": "wide.safetensors"}}}, "teachers: 'a/b' cannot be a name"),
        (
            {"quantize": {"mode": "qat", "distill": [{"method": "logit", "teacher": "wide"}]}},
            "'quantize.teacher' says who teaches",
        ),
        ({"teachers": {"wide": {"weights": "nowhere.pt"}}}, "teachers.wide.weights: no file"),
        (
            {"distill": [{"method": "crosskd", "teacher": "ema"}]},
            "crosskd needs a teacher that stays the same; the average of student yolo11p changes in every step",
        ),
        ({"distill": ["lad", "solad"]}, "lad, solad each steer the student's own loss; keep one"),
        ({"distill": [{"method": "lad", "weight": 2}]}, "there is no loss term to weight; leave weight out"),
    ],
)
def test_what_cannot_be(folder: Path, changes: dict[str, Any], problem: str) -> None:
    ended = edgekd("check", recipe(folder, **changes))
    assert ended.code == 2
    assert any(problem in line for line in ended.problems), ended.err


def test_the_average_alone_needs_no_teacher(folder: Path) -> None:
    """From the student's own weights: in the first step it equals its average, but for the mode of its batch norms."""
    only = [{"method": "logit", "teacher": "ema"}]
    made = recipe(folder, teacher=None, teachers=None, distill=only)
    ended = edgekd("check", made, "--dry-step", "--json")
    assert ended.code == 0, ended.err
    assert [term["term"] for term in ended.json["dry_step"]["terms"]] == ["detection", "logit.class"]
