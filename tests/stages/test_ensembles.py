"""Several teachers as one, from the recipe to the terms."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.tiny import edgekd, read, weights, write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    for name, model in (("teacher", "yolo11n"), ("second", "yolo11p"), ("student", "yolo11p")):
        weights(tmp_path / f"{name}.safetensors", model)
    return write_recipe(
        tmp_path / "tiny.yaml",
        data={"format": "digits", "imgsz": 64, "train": 8, "val": 8, "test": 8},
        teachers={"second": {"model": "yolo11p", "weights": "second.safetensors"}},
        ensembles={"both": {"of": ["teacher", "second"], "by": "confidence"}},
        distill=[{"method": "logit", "teacher": "both"}, {"method": "ld", "teacher": "both"}],
        control=False,
        export=[],
        gate={},
    )


@pytest.mark.slow
def test_a_student_learns_from_several_as_one(recipe: Path) -> None:
    ended = edgekd("distill", recipe, "--out", recipe.parent / "run")
    assert ended.code == 0, ended.err
    run = recipe.parent / "run"
    found = read(run / "teacher/both.json")
    assert (found["name"], found["family"]) == ("yolo11n+yolo11p", "ensemble")
    assert read(run / "validate/teacher.both@host.json")["ap"] == found["ap"]
    assert {"logit.class", "ld.box"} <= {row["term"] for row in read(run / "student/first_steps.json")["terms"]}
    again = edgekd("distill", recipe, "--out", run)
    assert {"teacher/both", "student"} <= set(again.kept)
    other = edgekd("distill", recipe, "--out", run, "--set", "ensembles.both.by=mean")
    assert other.code == 0 and not {"teacher/both", "student"} & set(other.kept) and "teacher/second" in other.kept


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("ensembles={both: {of: [teacher]}}", "at least 2"),
        ("ensembles={both: {of: [teacher, teacher]}}", "of: the same teacher twice; leave one out"),
        (
            "ensembles={both: {of: [teacher, secnd]}}",
            "unknown teacher 'secnd' (known: second, teacher; did you mean 'second'?)",
        ),
        ("ensembles={second: {of: [teacher, second]}}", "ensembles: 'second' cannot be a name"),
        ("ensembles={ema: {of: [teacher, second]}}", "ensembles: 'ema' cannot be a name"),
        ("distill=[{method: pkd, teacher: both}]", "pkd: teacher yolo11n+yolo11p"),
        ("distill=[{method: score_l2, teacher: both}]", "score_l2: teacher yolo11n+yolo11p"),
    ],
)
def test_what_does_not_fit_is_refused(change: str, problem: str, recipe: Path) -> None:
    ended = edgekd("check", recipe, "--set", change)
    assert ended.code == 2 and problem in ended.err, ended.err
