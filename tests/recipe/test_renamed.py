"""The control was called `baseline` in recipes: still read, and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekd.errors import InputError
from edgekd.recipe.load import load_recipe, read_recipe

MINIMAL = "name: a\nbaseline: true\ndata: {format: digits}\nstudent: {model: yolo11p}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(MINIMAL)
    return path


def test_the_former_key_is_read_with_a_note(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_recipe(recipe).control is True
    assert capsys.readouterr() == ("", f"note: {recipe}: 'baseline' is called 'control' now; write 'control: true'\n")
    assert list(read_recipe(recipe)) == ["name", "control", "data", "student"]


def test_so_is_a_former_override(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(MINIMAL.replace("baseline", "control"))
    assert load_recipe(recipe, ["baseline=false"]).control is False
    assert capsys.readouterr().err == (
        "note: --set baseline=false: 'baseline' is called 'control' now; write --set control=false\n"
    )


def test_both_names_are_one_too_many(recipe: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(recipe, ["control=true", "baseline=false"])
    assert caught.value.problems == (
        "--set baseline: is the former name of 'control', which is set, too; leave 'baseline' out",
    )
    recipe.write_text(MINIMAL + "control: false\n")
    with pytest.raises(InputError) as caught:
        load_recipe(recipe)
    assert caught.value.problems == (
        f"{recipe}: baseline: is the former name of 'control', which is given, too; remove 'baseline'",
    )


def test_a_locked_recipe_needs_no_note(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = recipe.rename(recipe.with_name("recipe.lock.yaml"))
    assert load_recipe(locked).control is True
    assert capsys.readouterr().err == ""


def test_new_names_are_not_spoken_of(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(MINIMAL.replace("baseline", "control"))
    assert load_recipe(recipe, ["control=true"]).control is True
    assert capsys.readouterr().err == ""


def test_what_is_wrong_with_it_is_told_under_the_new_name(recipe: Path) -> None:
    with pytest.raises(InputError, match="control: input should be a valid boolean"):
        load_recipe(recipe, ["baseline=maybe"])
