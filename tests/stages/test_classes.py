"""The teacher's classes and the data's, from recipe to stages: shown, warned of, refused, and part of the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.data.digits import CLASS_NAMES
from edgekd.detectors.ultralytics.weights import save_safetensors
from edgekd.run_dir import RunDir
from edgekd.stages.accuracy import in_data_classes
from edgekd.stages.binding import bind_recipe
from edgekd.stages.context import Context
from edgekd.stages.teachers import teacher_inputs
from tests.stages.tiny import detector, edgekd, weights, write_recipe

TEACHER = ("Zero", "one", "TWO", "Two", "three", "four", "five", "six", "seven", "8")  # of eight and nine, nothing


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teachers and a student, made once."""
    folder = tmp_path_factory.mktemp("classes")
    weights(folder / "student.safetensors", "yolo11p")
    for name, names in {"teacher": TEACHER, "foreign": ("cat", "dog")}.items():
        save_safetensors(detector("yolo11n", names=names).module, folder / f"{name}.safetensors", {}, half=False)
    return folder


def recipe(folder: Path, classes: dict[Any, Any] | None = None, weights: str = "teacher", **changes: Any) -> Path:
    teacher = {
        "model": "yolo11n",
        "weights": f"{weights}.safetensors",
        **({} if classes is None else {"classes": classes}),
    }
    return write_recipe(folder / "tiny.yaml", teacher=teacher, **changes)


def test_check_shows_the_map_and_warns_of_what_is_not_taught(kitchen: Path) -> None:
    ended = edgekd("check", recipe(kitchen, {"nine": "seven"}))
    assert ended.code == 0, ended.err
    rows = [" ".join(line.replace("│", " ").split()) for line in ended.out.splitlines()]
    for row in (
        "zero Zero 0 same but for case, blanks, _ and -",
        "one one 1 same name",
        "eight - - the teacher does not know it",
        "nine seven 8 teacher.classes; shared by seven, nine",
    ):
        assert row in rows, ended.out
    assert "warning: teacher yolo11n does not know 1 of 10 classes, they are not taught: eight" in rows
    assert (
        "warning: class 'two' is matched with none of teacher yolo11n: 'TWO' (column 2), 'Two' (column 3) could be "
        "meant, and not for this class alone; name one, or null, under teacher.classes"
    ) in rows


def test_check_tells_programs_the_same(kitchen: Path) -> None:
    ended = edgekd("check", recipe(kitchen, {"two": 3, "eight": "8", "nine": None}), "--json")
    assert ended.code == 0, ended.err
    found = {match["name"]: (match["column"], match["teacher"], match["how"]) for match in ended.json["classes"]}
    assert list(found) == list(CLASS_NAMES)
    assert found["zero"] == (0, "Zero", "folded")
    assert found["one"] == (1, "one", "exact")
    assert found["two"] == (3, "Two", "recipe")
    assert found["eight"] == (9, "8", "recipe")
    assert found["nine"] == (None, None, "recipe")
    assert ended.json["warnings"] == []


def test_what_teacher_classes_cannot_be_is_told_at_once(kitchen: Path) -> None:
    path = recipe(kitchen, {"to": "Two", "eight": "ate", "nine": 10})
    ended = edgekd("check", path)
    assert ended.code == 2
    assert [problem.partition(" (known")[0] for problem in ended.problems] == [
        f"{path}: teacher.classes.to: unknown class 'to'",
        f"{path}: teacher.classes.eight: unknown class 'ate'",
        f"{path}: teacher.classes.nine: must be one of the teacher's columns 0..9, got 10",
    ]
    ended = edgekd("check", recipe(kitchen, {"one": {}, "two": 1.5, "three": ["four"]}))
    assert ended.code == 2
    assert [problem.partition(" must be ")[0] for problem in ended.problems] == [
        f"{path}: teacher.classes.{name}: a class of the teacher" for name in ("one", "two", "three")
    ]


def test_a_teacher_that_knows_nothing_is_refused_unless_the_recipe_says_so(kitchen: Path) -> None:
    path = recipe(kitchen, weights="foreign")
    ended = edgekd("check", path)
    assert ended.code == 2
    assert ended.problems == [
        f"{path}: teacher.classes: teacher yolo11n knows none of the classes of the data (zero, one, two, three, four "
        "...), its own are cat, dog; name its class for each that it knows; to teach by feature maps alone, set each "
        "to null"
    ]
    nothing = dict.fromkeys(CLASS_NAMES)
    ended = edgekd("check", recipe(kitchen, nothing, weights="foreign"))
    assert ended.code == 2
    assert len(ended.problems) == 1
    assert "distill[0]: logit needs a class that the teacher knows" in ended.problems[0]
    assert edgekd("check", recipe(kitchen, nothing, weights="foreign", distill=["cwd"])).code == 0


def test_another_map_is_another_input_of_the_training(kitchen: Path, tmp_path: Path) -> None:
    def inputs(number: int, classes: dict[str, Any]) -> dict[str, Any]:
        bound = bind_recipe(recipe(kitchen, classes))
        with RunDir.held(tmp_path / str(number), "tiny", bound.base, bound.locked()) as run:
            return teacher_inputs(bound, bound.distillers, Context(bound, run).pair.teachers)

    by_name, by_column, other = (
        inputs(number, classes) for number, classes in enumerate(({"nine": "8"}, {"nine": 9}, {"nine": "seven"}))
    )
    assert by_name == by_column
    assert by_name["columns"] == [0, 1, -1, 4, 5, 6, 7, 8, -1, 9]
    assert other["columns"] == [0, 1, -1, 4, 5, 6, 7, 8, -1, 8]


def test_scores_of_a_dense_head_in_the_order_of_the_data() -> None:
    boxes, scores = np.zeros((2, 4), np.float32), np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], np.float32)
    _, found = in_data_classes([boxes, scores], np.array([2, -1, 0, 2]))
    np.testing.assert_array_equal(found, np.array([[0.3, 0, 0.1, 0.3], [0.6, 0, 0.4, 0.6]], np.float32))


def test_rows_of_an_end_to_end_head_in_the_order_of_the_data() -> None:
    """Column 2 serves classes 0 and 3, column 1 none of the data's; the best row stays first."""
    rows = np.array([[0, 0, 1, 1, 0.9, 2], [0, 0, 2, 2, 0.8, 1], [0, 0, 3, 3, 0.7, 0]], np.float32)
    (found,) = in_data_classes([rows], np.array([2, -1, 0, 2]))
    assert found[:, [2, 5]].tolist() == [[1, 0], [1, 3], [3, 2]]
    np.testing.assert_array_equal(found[:, 4], np.float32([0.9, 0.9, 0.7]))
    (nothing,) = in_data_classes([rows], np.array([-1, -1]))
    assert nothing.shape == (0, 6)
