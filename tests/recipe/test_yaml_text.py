"""YAML as people mean it: numbers, names, and what has two readings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from edgekd.errors import InputError
from edgekd.recipe.yaml_text import dump, parse, read_mapping, reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.e+1", -20.0),
        (".5e1", 5.0),
        ("1.5e-3", 0.0015),
        ("12_000", 12000),
        ("0", 0),
        ("0x1f", 31),
        ("-7", -7),
        ("0.5", 0.5),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("e5", "e5"),
        ("2024-02-30", "2024-02-30"),
        ("2024-02-29", "2024-02-29"),
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("off", False),
        ("", None),
    ],
)
def test_values_are_read_as_meant(text: str, value: Any) -> None:
    read = parse(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("text", ["010", "007", "-01", "00"])
def test_a_leading_zero_has_two_readings(text: str) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        parse(f"a: 1\nb: {text}")
    assert reason(caught.value).startswith(f"line 2: {text} has a leading zero, which YAML reads as octal; write ")


def test_names_are_what_is_written() -> None:
    text = "names: [no, 010, 7, 1e3, '', ~, ant]\nnc: 7\ntest: no"
    assert parse(text, {"names": "all"}) == {
        "names": ["no", "010", "7", "1e3", "", None, "ant"], "nc": 7, "test": False,
    }  # fmt: skip
    assert parse("names: {0: off, 1: 08}", {"names": "all"}) == {"names": {"0": "off", "1": "08"}}


def test_numbers_beside_names_stay_numbers() -> None:
    names: Any = {"teacher.classes": "keys"}
    assert parse("teacher: {classes: {no: 3, 7: yes, ant: bee}}", names) == {
        "teacher": {"classes": {"no": 3, "7": "yes", "ant": "bee"}}
    }
    assert parse("{no: 0.5}", names, "teacher.classes") == {"no": 0.5}
    assert parse("train: {classes: [0, 1]}", names) == {"train": {"classes": [0, 1]}}


def test_anchors_work_and_hold_not_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\n")
    assert read_mapping(tmp_path / "a.yaml") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}
    with pytest.raises(yaml.YAMLError) as caught:
        parse("names: &n [no, *n]", {"names": "all"})
    assert reason(caught.value) == "line 1: a list or mapping that holds itself; write out what it should hold"


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('a: 1\nb: "x\\ud800"\n')
    with pytest.raises(InputError, match=r"line 2: text with half of a surrogate pair"):
        read_mapping(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "value", ["1e3", "no", "010", "7", "2024-01-01", "12:30", "~", "", 1e-5, 0.001, 1e300, 12, True, None, "größe"]
)
def test_what_is_dumped_is_read_alike_by_every_loader(value: Any) -> None:
    written = dump({"a": value, "b": [value]})
    assert parse(written) == yaml.safe_load(written) == {"a": value, "b": [value]}
