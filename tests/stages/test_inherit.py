"""`student.inherit`: student and control start from weights of the teacher, and the report says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.run_dir import RunDir
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.train import Trained, fit_plan
from tests.stages.tiny import edgekd, read, weights, write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    weights(tmp_path / "teacher.safetensors", "yolo11p")
    return write_recipe(
        tmp_path / "tiny.yaml",
        data={"format": "digits", "imgsz": 64, "train": 8, "val": 8, "test": 8},
        teacher={"model": "yolo11p", "weights": "teacher.safetensors"},
        student={"model": "yolo11p", "inherit": ["neck", "head"]},
        distill=["logit"],
        export=[],
        gate={"min_ap": 0.0},
    )


def test_both_start_from_the_same_weights(recipe: Path) -> None:
    ended = edgekd("run", recipe, "--out", recipe.parent / "run")
    assert ended.code == 0, ended.err
    run = recipe.parent / "run"
    found = [read(run / name / "metrics.json")["inherited"] for name in ("control", "student")]
    assert found[0] == found[1] and found[0]["sections"] == ["neck", "head"] and 0.3 < found[0]["share"] < 1
    said = "Control and student began with the teacher's neck and head: "
    said += f"{100 * found[0]['share']:.0f} % of their weights."
    assert said in (run / "report.md").read_text() and said.split("'")[0] in (run / "report.html").read_text()
    context = Context(bind_recipe(recipe, ()), RunDir.existing(run))
    plans = [fit_plan(context, Trained(role)) for role in ("control", "student")]
    assert plans[0].inherited.keys() == plans[1].inherited.keys() and len(plans[0].inherited) > 100
    other = edgekd("distill", recipe, "--out", run, "--set", "student.inherit=[]")
    assert other.code == 0 and not {"control", "student"} & set(other.kept)


def test_without_a_teacher_it_is_refused(recipe: Path) -> None:
    ended = edgekd("check", recipe, "--set", "teacher=null", "--set", "distill=[]")
    assert ended.code == 2 and "'student.inherit' needs a 'teacher' to take weights from" in ended.err
