"""Families of a recipe's detectors: found out when it is bound, written into the lock file, refused where unknown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.detectors import families
from edgekd.errors import InputError
from edgekd.stages.binding import Bound, bind_recipe, recipe_json_schema
from edgekd.stages.models import build_detectors
from edgekd.stages.summaries import show
from tests.detectors.toy import ToyDetector, ToyFamily


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    families.family_names()  # the built-in ones first
    monkeypatch.setitem(families._REGISTRY, "toy", ToyFamily())
    yield


def bound(folder: Path, **changes: Any) -> Bound:
    content = {"name": "x", "data": {"format": "digits"}, "student": {"model": "yolo11p"}, "devices": [], **changes}
    (folder / "r.yaml").write_text(yaml.safe_dump(content))
    return bind_recipe(folder / "r.yaml")


def test_found_out_and_written_down(tmp_path: Path) -> None:
    ToyDetector.made(("a",), 3).save(tmp_path, {}, 64)
    teachers = {"other": {"weights": "student.safetensors"}}
    found = bound(tmp_path, teacher={"model": "yolo11n", "weights": "best.pt"}, teachers=teachers)
    assert found.recipe.student.family == "ultralytics"
    assert found.recipe.teacher is not None
    assert found.recipe.teacher.family == "ultralytics"
    assert found.recipe.teachers["other"].family == "toy"
    (tmp_path / "locked.yaml").write_text(found.locked())
    again = bind_recipe(tmp_path / "locked.yaml")
    assert again.recipe.teachers["other"].family == "toy"
    assert again.locked() == found.locked()


def test_unknown_ones_are_told_at_once_with_other_problems(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        bound(
            tmp_path, student={"model": "yolo11p", "family": "toi"}, teacher={"model": "x", "family": "other"},
            export=["onnx-fp23"],
        )  # fmt: skip
    told = caught.value.problems
    where = str(tmp_path / "r.yaml")
    assert len(told) == 3
    assert any(one.startswith(f"{where}: teacher.family: unknown family 'other' (known: ") for one in told)
    assert any(one.startswith(f"{where}: student.family: unknown family 'toi'") and "'toy'" in one for one in told)


def test_a_model_of_no_family_is_told_when_it_is_opened(tmp_path: Path) -> None:
    found = bound(tmp_path, student={"model": "yolo99n"})
    assert found.recipe.student.family is None
    with pytest.raises(InputError, match=r"r.yaml: student.model: unknown model 'yolo99n' \(known: .*toy-s"):
        build_detectors(found, ("a", "b"), 3, architecture_only=True)


def test_habits_of_the_students_family_are_laid_under_the_recipes_own(tmp_path: Path) -> None:
    student = {"model": "toy-s"}
    assert bound(tmp_path, student=student).recipe.train == {"optimizer": "AdamW", "lr0": 0.004}
    own = bound(tmp_path, student=student, train={"lr0": 0.01, "epochs": 2}).recipe.train
    assert own == {"optimizer": "AdamW", "lr0": 0.01, "epochs": 2}
    assert bound(tmp_path, train={"epochs": 2}).recipe.train == {"epochs": 2}


def test_defaults_that_depend_on_the_recipe(tmp_path: Path) -> None:
    student = {"model": "rtmdet-p"}
    short = bound(tmp_path, student=student, train={"epochs": 30, "batch": 8}).recipe.train
    assert (short["nbs"], short["close_mosaic"], short["mosaic"]) == (8, 2, 1.0)
    own = bound(tmp_path, student=student, train={"epochs": 30, "batch": 8, "nbs": 64, "close_mosaic": 9}).recipe.train
    assert (own["nbs"], own["close_mosaic"]) == (64, 9)
    assert bind_recipe(tmp_path / "r.yaml", ("train.batch=4", "train.nbs=4")).recipe.train["nbs"] == 4


def test_pairs_across_families(tmp_path: Path) -> None:
    """The student's strides, 8 and 16, are two of the teacher's three."""
    teacher = {"model": "yolo11p", "weights": "missing.pt"}
    found = bound(tmp_path, student={"model": "toy-s"}, teacher=teacher, distill=["pkd", "ld"])
    with pytest.raises(InputError) as caught:
        build_detectors(found, ("a", "b"), 3, architecture_only=True)
    (told,) = caught.value.problems
    assert "distill[1]: ld needs a box distribution of equal bins on both sides; " in told
    found = bound(tmp_path, student={"model": "toy-s"}, teacher=teacher, distill=["pkd"])
    pair = build_detectors(found, ("a", "b"), 3, architecture_only=True)
    assert (pair.student.spec.family, pair.head) == ("toy", "one2many")


def test_arguments_that_its_network_has_no_layers_for(tmp_path: Path) -> None:
    found = bound(tmp_path, student={"model": "toy-s"}, train={"freeze": 3})
    with pytest.raises(InputError, match=r"r.yaml: train.freeze: counts layers of the engine's own networks"):
        build_detectors(found, ("a", "b"), 3)


def test_the_last_words_name_the_file_that_the_family_writes(tmp_path: Path) -> None:
    (tmp_path / "recipe.lock.yaml").write_text(bound(tmp_path, student={"model": "toy-s"}).locked())
    _, text = show(tmp_path, "student_qat")
    assert text.splitlines()[-1] == f"student weights: {tmp_path / 'student' / 'student.safetensors'}"


def test_editors_are_told_the_families() -> None:
    for kind in ("StudentRecipe", "TeacherRecipe"):
        examples = recipe_json_schema()["$defs"][kind]["properties"]["family"]["examples"]
        assert {"ultralytics", "toy"} <= set(examples)
