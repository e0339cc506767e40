"""Which class of a teacher is which of the data, by hand: nothing is guessed, and nothing is silent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from edgekd.detectors.class_matching import ClassMatch, fold, match_classes, unknown_warnings
from edgekd.errors import InputError


def columns(teacher: str, data: str, given: Mapping[str, int | str | None] | None = None) -> list[int | None]:
    """Columns of names separated by commas."""
    return [match.column for match in match_classes(teacher.split(","), data.split(","), given)]


def hows(teacher: str, data: str, given: Mapping[str, int | str | None] | None = None) -> list[str]:
    return [match.how for match in match_classes(teacher.split(","), data.split(","), given)]


def test_the_same_name_comes_first() -> None:
    """Upper and lower case are two classes where both sides have both."""
    assert columns("A,a,B,b", "A,a,B,b") == [0, 1, 2, 3]
    assert columns("b,B,a,A", "A,a,B,b") == [3, 2, 1, 0]
    assert set(hows("b,B,a,A", "A,a,B,b")) == {"exact"}


@pytest.mark.parametrize(
    "name", ["Traffic Light", "traffic_light", "traffic-light", " TRAFFIC  LIGHT ", "trafficlight"]
)
def test_case_blanks_and_hyphens_do_not_matter_where_a_name_is_unique(name: str) -> None:
    assert columns("car,traffic light", name) == [1]
    assert columns(f"car,{name}", "traffic light") == [1]
    assert hows("car,traffic light", name) == ["folded"]


@pytest.mark.parametrize(
    ("teacher", "data"),
    [
        ("cat,CAT", "Cat"),  # two of the teacher's
        ("cat", "Cat,CAT"),  # two of the data's
        ("hot-dog,hot dog", "hot_dog"),
        ("cat,cat", "cat"),  # the same name twice
        ("cat,cat", "Cat"),
    ],
)
def test_what_is_not_unique_on_both_sides_is_not_matched(teacher: str, data: str) -> None:
    assert set(columns(teacher, data)) == {None}
    assert set(hows(teacher, data)) == {"ambiguous"}


def test_what_an_exact_match_leaves_over_is_not_unique() -> None:
    assert columns("cat,CAT", "cat,Cat") == [0, None]
    assert columns("A", "A,a") == [0, None]


@pytest.mark.parametrize(
    ("voc", "coco"),
    [
        ("motorbike", "motorcycle"),
        ("aeroplane", "airplane"),
        ("sofa", "couch"),
        ("pottedplant", "potted plant"),
        ("diningtable", "dining table"),
        ("tvmonitor", "tv"),
    ],
)
def test_the_six_classes_that_coco_spells_otherwise(voc: str, coco: str) -> None:
    for teacher, data in ((f"x,{voc}", coco), (f"x,{coco}", voc), (f"x,{coco.title()}", voc.upper())):
        assert columns(teacher, data) == [1]
        assert hows(teacher, data)[0] in ("alias", "folded")


def test_another_spelling_is_taken_only_where_it_is_unique() -> None:
    assert columns("couch", "sofa,couch") == [None, 0]
    assert columns("couch,sofa", "sofa") == [1]
    assert columns("couch,Sofa", "sofa") == [1]
    assert columns("couch,SOFA,Sofa", "sofa") == [None]
    assert hows("couch,SOFA,Sofa", "sofa") == ["ambiguous"]


def test_other_words_are_other_classes() -> None:
    assert hows("car,truck", "van,bus") == ["none", "none"]
    assert columns("-", "_") == [None], "names of nothing but separators have nothing in common"
    assert hows("-", "_") == ["none"]


def test_the_recipe_has_the_last_word() -> None:
    given = {"van": "truck", "bike": 0, "dog": None, "cat": "cat"}
    matches = match_classes(["bicycle", "truck", "dog", "cat"], ["van", "bike", "dog", "cat"], given)
    assert matches == (
        ClassMatch("van", 1, "truck", "recipe"),
        ClassMatch("bike", 0, "bicycle", "recipe"),
        ClassMatch("dog", None, None, "recipe"),
        ClassMatch("cat", 3, "cat", "recipe"),
    )


def test_a_column_that_the_recipe_gave_away_is_not_guessed_for_another_class() -> None:
    assert columns("car", "van,Car", {"van": "car"}) == [0, None]
    assert columns("couch", "seat,sofa", {"seat": 0}) == [0, None]


def test_a_column_serves_two_classes_only_where_the_recipe_says_so() -> None:
    matches = match_classes(["car"], ["car", "van"], {"van": "car"})
    assert [(match.column, match.how, match.note) for match in matches] == [
        (0, "exact", "shared by car, van"),
        (0, "recipe", "shared by car, van"),
    ]


def test_all_that_is_wrong_with_the_recipe_is_told_at_once() -> None:
    given = {"vam": "truck", "van": "trunk", "bus": 3, "dog": -1, "cat": "cat"}
    with pytest.raises(InputError) as error:
        match_classes(["truck", "cat", "cat"], ["van", "bus", "dog", "cat"], given, "r.yaml: teacher.classes")
    assert error.value.problems == (
        "r.yaml: teacher.classes.vam: unknown class 'vam' (known: bus, cat, dog, van; did you mean 'van'?) of the data",
        "r.yaml: teacher.classes.van: unknown class 'trunk' (known: cat, cat, truck; did you mean 'truck'?) of the "
        "teacher",
        "r.yaml: teacher.classes.bus: must be one of the teacher's columns 0..2, got 3",
        "r.yaml: teacher.classes.dog: must be one of the teacher's columns 0..2, got -1",
        "r.yaml: teacher.classes.cat: columns 1, 2 of the teacher are all called 'cat'; give a number",
    )


def test_warnings_name_every_class_that_is_not_taught() -> None:
    names = [f"c{number}" for number in range(12)]
    matches = match_classes(["cat", "CAT"], ["Cat", "dog", *names], {"dog": None})
    assert unknown_warnings(matches, "big") == [
        f"teacher big does not know 12 of 14 classes, they are not taught: {', '.join(names)}",
        "class 'Cat' is matched with none of teacher big: 'cat' (column 0), 'CAT' (column 1) could be meant, and not "
        "for this class alone; name one, or null, under teacher.classes",
    ]
    assert unknown_warnings(match_classes(["a"], ["A"]), "big") == []


def test_names_are_folded_as_people_read_them() -> None:
    assert fold(" Hot_Dog - STAND ") == "hotdogstand"
    assert fold("cafe\N{COMBINING ACUTE ACCENT}") == fold("CAF\N{LATIN CAPITAL LETTER E WITH ACUTE}")


def test_many_classes_take_no_time() -> None:
    """30,000 on either side: a few passes, not one per pair."""
    names = [f"class {number}" for number in range(30_000)]
    matches = match_classes([name.upper() for name in reversed(names)], names)
    assert [match.column for match in matches] == list(reversed(range(30_000)))
