"""The section `search:`."""

from __future__ import annotations

import pytest

from edgekd.errors import InputError
from edgekd.recipe.load import bind
from edgekd.recipe.search import SearchRecipe


def test_everything_may_be_left_out() -> None:
    students = bind(SearchRecipe, {}, "r.yaml", "search").students
    assert (students.models, students.sizes, students.targets, students.precisions) == ((), (), (), ())
    assert students.protocol == "quick"


def test_entries_are_told_apart_and_bounded() -> None:
    given = {"students": {"models": ["yolo11n", "yolo11n"], "sizes": [16], "precisions": ["fp64"], "speed": 1}}
    with pytest.raises(InputError) as caught:
        bind(SearchRecipe, given, "r.yaml", "search")
    assert caught.value.problems == (
        "r.yaml: search.students.models: yolo11n is given twice; leave one out",
        "r.yaml: search.students.sizes[0]: input should be greater than or equal to 32, got 16",
        "r.yaml: search.students.precisions[0]: input should be 'fp32', 'fp16' or 'int8', got 'fp64'",
        "r.yaml: search.students.speed: unknown key 'speed' (known: models, precisions, protocol, sizes, targets)",
    )
