"""Recipes built in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import edgekd
from edgekd.recipe.asked import overrides_of, profile_overrides

PARTS = {
    "data": {"format": "digits", "imgsz": 64}, "student": {"model": "yolo11p"},
    "teacher": {"model": "yolo11n"}, "distill": ["logit", {"method": "ld", "weight": 2}],
    "train": {"epochs": 1, "lr0": 1e-5}, "export": ["onnx-fp32"], "devices": ["local"],
}  # fmt: skip


def made(**changes: object) -> edgekd.Recipe:
    return edgekd.Recipe(**{"name": "tiny", **PARTS, **changes})


def test_it_is_written_as_the_yaml_that_was_meant(tmp_path: Path) -> None:
    path = made().write(tmp_path / "tiny.yaml")
    assert yaml.safe_load(path.read_text()) == {"name": "tiny", **PARTS}
    again = edgekd.Recipe.load(path)
    assert (again.content, again.base, again.path) == (made().content, tmp_path, path)
    with pytest.raises(edgekd.InputError, match="is there already"):
        made().write(path)
    made(distill=[]).write(path, replace=True)
    assert edgekd.Recipe.load(path)["distill"] == []


def test_a_change_gives_another_one() -> None:
    recipe = made()
    other = recipe.changed({"train.epochs": 3, "distill.1.weight": 0.5, "export": [], "teacher.weights": Path("a.pt")})
    assert (recipe["train"]["epochs"], other["train"]["epochs"]) == (1, 3)
    assert other["distill"] == [{"method": "logit"}, {"method": "ld", "weight": 0.5}]
    assert (other["export"], other["teacher"]["weights"]) == ([], "a.pt")
    assert recipe != other
    assert recipe == made()
    with pytest.raises(edgekd.InputError, match="no such place in the recipe"):
        recipe.changed({"distill.7.weight": 1})


def test_a_copy_is_handed_out() -> None:
    recipe = made()
    recipe["train"]["epochs"] = 100
    recipe.content["train"]["epochs"] = 100
    assert recipe["train"]["epochs"] == 1
    assert "gate" not in recipe


def test_it_is_bound_as_a_file_is(tmp_path: Path) -> None:
    path = made().write(tmp_path / "tiny.yaml")
    assert made().bound().locked() == edgekd.Recipe.load(path).bound().locked()
    assert made().bound(("train.epochs=7",)).recipe.train["epochs"] == 7


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """As on the command line: those of the schema and those that need other rooms together."""
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({"name": "bad", **PARTS, "distill": ["logitt"], "devices": ["loca"], "sed": 1}))
    with pytest.raises(edgekd.InputError) as caught:
        edgekd.check(path)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == ["sed", "distill[0].method", "devices[0]"]


def test_overrides_are_those_of_the_command_line() -> None:
    given = {"train.lr0": 1e-5, "name": "ä", "gate": {"min_ap": 0.5}, "seeds": (0, 1), "x": None, "n": np.int64(3)}
    assert overrides_of(given) == (
        "train.lr0=1e-05", 'name="ä"', 'gate={"min_ap": 0.5}', "seeds=[0, 1]", "x=null", "n=3",
    )  # fmt: skip
    with pytest.raises(edgekd.InputError, match=r"overrides: train.epochs: got .*a recipe holds text"):
        overrides_of({"train.epochs": object()})
    with pytest.raises(edgekd.InputError, match="a recipe holds text, finite numbers"):
        overrides_of({"train.lr0": float("nan")})


def test_loads_and_a_long_run_of_a_profile() -> None:
    assert profile_overrides([1, 2], 4) == (
        'profile.throughput=[{"streams": 1, "batch": 4}, {"streams": 2, "batch": 4}]',
    )
    assert profile_overrides(sustained_s=90) == ("profile.protocol=sustained", "profile.sustained_minutes=1.5")
    assert profile_overrides() == ()


def test_a_recipe_of_several_processes_has_to_be_a_file(tmp_path: Path) -> None:
    recipe = made(train={"epochs": 1, "gpus_per_node": 2, "device": "cpu"})
    with pytest.raises(edgekd.InputError, match=r"write it by recipe\.write"):
        edgekd.run(recipe, tmp_path / "run")


def test_notebooks_show_it() -> None:
    assert made(name="a.b")._repr_html_().startswith("<pre>name: a.b\n")
    assert "&lt;script&gt;" in made(report={"images": True}, teacher={"model": "<script>"})._repr_html_()
